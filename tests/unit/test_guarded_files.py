"""The guarded_files module on real directories: check, run, change, refusals, interrupted runs, and the rollback."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.module_utils import files, rollback
from ansible_collections.openmates.server.plugins.modules import guarded_files

OWN = pwd.getpwuid(os.geteuid()).pw_name
Guarded = Callable[..., dict]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake host: the guard's directories, and a systemctl that records its calls."""
    for name, folder in (("STATE", "state"), ("PROGRAM", "program"), ("UNIT", "guard@.service")):
        monkeypatch.setattr(guarded_files, name, tmp_path / folder)
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/systemctl\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def guarded(run_module: Guarded, place: Path) -> Guarded:
    """Run the module on a file `conf` that has to hold `content`; a log tells which content was made effective."""

    def run(content: str = "new\n", **options: object) -> dict:
        files = [{"path": str(place / "conf"), "content": content, "owner": OWN}]
        activate = [f"sh -c 'cat {place}/conf >> {place}/effective || echo nothing >> {place}/effective'"]
        arguments = {"name": "test", "files": files, "activate": activate, **options}
        return run_module(guarded_files.main, **arguments)

    return run


@pytest.fixture
def guard(place: Path) -> rollback.Guard:
    return rollback.Guard(place / "state/test")


def effective(place: Path) -> list[str]:
    file = place / "effective"
    return file.read_text().split() if file.exists() else []


def systemctl(place: Path) -> list[str]:
    return (place / "systemctl").read_text().splitlines() if (place / "systemctl").exists() else []


# ---------------------------------------------------------------- the ladder


def test_check_run_prove_check_run_change(guarded: Guarded, place: Path, guard: rollback.Guard) -> None:
    (place / "conf").write_text("old\n")
    promised = guarded(check=True, diff=True)
    assert promised["changed"] and promised["written"] == [str(place / "conf")]
    assert (promised["diff"][0]["before"], promised["diff"][0]["after"]) == ("old\n", "new\n")
    assert (place / "conf").read_text() == "old\n" and not (place / "state").exists() and not systemctl(place)

    done = guarded(diff=True)
    assert done["armed"] and {**done, "armed": False} == promised
    assert (place / "conf").read_text() == "new\n" and effective(place) == ["new"]
    assert guard.snapshot() and "restart openmates-guard@test.service" in systemctl(place)

    assert guarded(state="proven")["changed"]
    assert guard.snapshot() is None and (place / "conf").read_text() == "new\n"
    assert systemctl(place)[-1] == "stop openmates-guard@test.service"

    before = systemctl(place)
    for check in (True, False):
        result = guarded(check=check, diff=True)
        assert (result["changed"], result["armed"], result["diff"]) == (False, False, [])
    assert systemctl(place) == before and effective(place) == ["new"]
    assert guarded("newer\n")["armed"]


@pytest.mark.parametrize("former", ["old\n", None])
def test_restored_puts_back_content_permissions_and_absence(
    guarded: Guarded, place: Path, guard: rollback.Guard, former: str | None
) -> None:
    conf = place / "conf"
    if former:
        conf.write_text(former)
        conf.chmod(0o640)
    guarded()
    assert guarded(state="restored")["changed"]
    assert guard.snapshot() is None
    assert conf.exists() == bool(former)
    assert effective(place) == ["new", *(["old"] if former else ["nothing"])]
    if former:
        assert (conf.read_text(), conf.stat().st_mode & 0o777) == (former, 0o640)
    assert not guarded(state="restored")["changed"]


def test_a_link_comes_back_as_a_link(guarded: Guarded, place: Path) -> None:
    (place / "elsewhere").write_text("precious\n")
    (place / "conf").symlink_to(place / "elsewhere")
    guarded()
    assert not (place / "conf").is_symlink() and (place / "elsewhere").read_text() == "precious\n"
    guarded(state="restored")
    assert (place / "conf").readlink() == place / "elsewhere"


def test_wrong_permissions_are_a_change_and_so_are_the_directorys_if_declared(guarded: Guarded, place: Path) -> None:
    guarded()
    guarded(state="proven")
    (place / "conf").chmod(0o666)
    assert guarded(check=True)["changed"]
    guarded()
    guarded(state="proven")
    assert (place / "conf").stat().st_mode & 0o777 == 0o644
    deep = [{"path": str(place / "home/keys"), "content": "k\n", "owner": OWN, "directory_mode": "0700"}]
    guarded(files=deep)
    assert (place / "home").stat().st_mode & 0o777 == 0o700
    (place / "home").chmod(0o777)
    assert guarded(files=deep, state="proven")["changed"] and guarded(files=deep, check=True)["changed"]


# ---------------------------------------------------------------- refusals


def test_what_is_refused_is_put_back_and_was_never_in_effect(
    guarded: Guarded, place: Path, guard: rollback.Guard
) -> None:
    (place / "conf").write_text("old\n")
    result = guarded(validate=["sh -c 'echo line 1: what is this >&2; exit 1'"])
    assert result["failed"] and "line 1: what is this" in result["msg"] and "in effect the whole time" in result["msg"]
    assert (place / "conf").read_text() == "old\n"
    assert effective(place) == [] and guard.snapshot() is None


def test_what_cannot_be_made_effective_is_put_back_and_made_effective_again(
    guarded: Guarded, place: Path, guard: rollback.Guard
) -> None:
    (place / "conf").write_text("old\n")
    command = f"sh -c 'cat {place}/conf >> {place}/effective; grep -q old {place}/conf'"
    result = guarded(activate=[command])
    assert result["failed"] and "could not be made effective" in result["msg"]
    assert effective(place) == ["new", "old"] and guard.snapshot() is None


def test_an_own_command_makes_the_former_files_effective(guarded: Guarded, place: Path) -> None:
    guarded(rollback=[f"sh -c 'echo undone >> {place}/effective'"])
    guarded(state="restored")
    assert effective(place) == ["new", "undone"]


def test_what_cannot_be_put_back_stays_armed(guarded: Guarded, guard: rollback.Guard) -> None:
    guarded(rollback=["false"])
    result = guarded(state="restored")
    assert result["failed"] and "keeps trying" in result["msg"]
    assert guard.snapshot()


def test_without_its_service_nothing_is_changed(guarded: Guarded, place: Path, guard: rollback.Guard) -> None:
    (place / "bin/systemctl").write_text("#!/bin/sh\n[ $1 != restart ]\n")
    result = guarded()
    assert result["failed"] and "could not be guarded" in result["msg"]
    assert not (place / "conf").exists() and effective(place) == [] and guard.snapshot() is None


def test_an_owner_who_does_not_exist_is_a_change_in_a_dry_run_and_refused_in_a_real_one(
    guarded: Guarded, place: Path
) -> None:
    files = [{"path": str(place / "conf"), "content": "x", "owner": "no-such-user"}]
    assert guarded(files=files, check=True)["changed"]
    result = guarded(files=files)
    assert result["failed"] and "owner" in result["msg"] and not (place / "conf").exists()


def test_a_proof_after_the_rollback_is_an_error(guarded: Guarded) -> None:
    guarded()
    guarded(state="restored")
    result = guarded(state="proven")
    assert result["failed"] and "too late" in result["msg"]


# ---------------------------------------------------------------- what is in effect


def test_files_that_are_right_but_not_in_effect_are_made_so(guarded: Guarded, place: Path) -> None:
    current = f"test -e {place}/in-effect"
    guarded(current=current)
    guarded(state="proven")
    assert guarded(current=current, check=True)["changed"]
    assert guarded(current=current)["armed"] and effective(place) == ["new", "new"]
    guarded(state="proven")
    (place / "in-effect").touch()
    assert not guarded(current=current)["changed"]


# ---------------------------------------------------------------- runs that were cut off


def test_the_next_run_keeps_the_last_confirmed_state_for_a_rollback(
    guarded: Guarded, place: Path, guard: rollback.Guard
) -> None:
    (place / "conf").write_text("proven\n")
    guarded("first try\n")
    first = guard.snapshot()
    # Killed here. The files are as declared by now, but not confirmed.
    assert guarded("first try\n", check=True)["changed"]
    again = guarded("first try\n", seconds=500)
    assert again["armed"] and again["resumed"] and again["written"] == []
    assert guard.snapshot()["deadline"] > first["deadline"] + 400
    guarded("second try\n")
    guarded(state="restored")
    assert (place / "conf").read_text() == "proven\n"


def test_a_refusal_after_a_cut_off_run_makes_the_proven_state_effective(guarded: Guarded, place: Path) -> None:
    (place / "conf").write_text("proven\n")
    guarded("unproven\n")
    result = guarded("broken\n", validate=["false"])
    assert result["failed"] and effective(place) == ["unproven", "proven"]


def test_files_that_a_resumed_run_adds_are_put_back_too(guarded: Guarded, place: Path) -> None:
    (place / "other").write_text("other\n")
    guarded()
    files = [{"path": str(place / name), "content": "changed\n", "owner": OWN} for name in ("conf", "other")]
    guarded(files=files)
    guarded(state="restored")
    assert not (place / "conf").exists() and (place / "other").read_text() == "other\n"


@pytest.mark.parametrize("moment", ["arm", "write", "activate"])
def test_a_run_killed_at_any_moment_leaves_what_the_rollback_needs(
    guarded: Guarded, place: Path, guard: rollback.Guard, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "conf").write_text("old\n")
    with monkeypatch.context() as patch:
        if moment == "arm":
            patch.setattr(rollback.Guard, "arm", lambda *_: os._exit(9))
        elif moment == "write":
            patch.setattr(files.File, "write", lambda *_: os._exit(9))
        killed = {"activate": ["sh -c 'kill -9 $PPID'"]} if moment == "activate" else {}
        child = os.fork()
        if not child:
            guarded(rollback=[], **killed)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (9, -9)
    assert (guard.snapshot() is None) == (moment == "arm")
    if moment != "arm":
        snapshot = guard.snapshot()
        guard.file.write_text(json.dumps({**snapshot, "deadline": 0}))
        assert "restored" in guard.restore_in_time()
    assert (place / "conf").read_text() == "old\n" and guard.snapshot() is None


# ---------------------------------------------------------------- the rollback by itself


def on_its_own(place: Path) -> subprocess.Popen:
    """The rollback as the host runs it: the installed program, without Ansible."""
    command = [sys.executable, "-S", place / "program/rollback.py", place / "state/test"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_installed_program_restores_when_the_time_is_over(guarded: Guarded, place: Path) -> None:
    (place / "conf").write_text("old\n")
    guarded(seconds=1)
    output, _ = on_its_own(place).communicate(timeout=60)
    assert "was not confirmed in time" in output
    assert (place / "conf").read_text() == "old\n" and effective(place) == ["new", "old"]


def test_the_program_ends_quietly_when_the_proof_came(
    guarded: Guarded, place: Path, guard: rollback.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded(seconds=600)
    proof = SimpleNamespace(
        clock_gettime=time.clock_gettime,
        CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        sleep=lambda _: guarded(state="proven"),
    )
    monkeypatch.setattr(rollback, "time", proof)
    assert "was confirmed" in guard.restore_in_time()
    assert "was confirmed" in on_its_own(place).communicate(timeout=60)[0]
    assert (place / "conf").read_text() == "new\n"


def test_a_late_rollback_finds_that_the_next_run_put_it_off(
    guarded: Guarded, place: Path, guard: rollback.Guard
) -> None:
    guarded(seconds=0)
    with guard.locked():  # the next run works
        program = on_its_own(place)
        guard.arm([], [], 600)
    with pytest.raises(subprocess.TimeoutExpired):
        program.communicate(timeout=1)
    program.kill()
    program.communicate()
    assert (place / "conf").read_text() == "new\n" and guard.snapshot()


def test_after_a_reboot_the_full_time_starts_again(guarded: Guarded, place: Path, guard: rollback.Guard) -> None:
    guarded(seconds=1)
    guard.file.write_text(json.dumps({**guard.snapshot(), "boot": "an earlier one", "deadline": 10**9}))
    assert "restored" in guard.restore_in_time()
    assert not (place / "conf").exists()
