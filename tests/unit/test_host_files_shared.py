"""The host_files module among files of other packages, in the order check, run, check, run, change."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules import host_files

Run = Callable[..., dict]
ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Files of a distribution: a directory with unusual permissions, and a file of settings."""
    etc = tmp_path / "etc"
    (etc / "secret.d").mkdir(parents=True, mode=0o750)
    (etc / "login.defs").write_text("# UMASK 022\nUMASK 022\nUID_MIN 1000\n")
    (etc / "login.defs").chmod(0o644)
    return etc


@pytest.fixture
def run(run_module: Callable[..., dict], etc: Path) -> Run:
    return lambda **options: run_module(host_files.main, dest=str(etc), **options)


def everything(etc: Path) -> dict[str, tuple]:
    return {
        str(path.relative_to(etc)): (stat.filemode(path.lstat().st_mode), path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in sorted(etc.rglob("*"))
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_check_run_check_run_change(run: Run, etc: Path) -> None:
    wanted = {
        "files": [
            {"path": "secret.d/ours", "content": "one\n", "mode": "0440"},
            {"path": "new.d/ours", "content": "two\n"},
        ],
        "lines": [{"path": str(etc / "login.defs"), "match": r"^#?\s*UMASK\s", "line": "UMASK 027"}],
        "permissions": [{"path": str(etc / "login.defs"), "mode": "0600", **ME}],
    }
    before = everything(etc)
    promised = run(**wanted, check=True, diff=True)
    assert promised["changed"] and everything(etc) == before
    done = run(**wanted, diff=True)
    assert done == promised
    assert done["written"] == [str(etc / name) for name in ("secret.d/ours", "new.d/ours", "login.defs")]
    assert done["corrected"] == [str(etc / "login.defs")]
    assert (etc / "login.defs").read_text() == "UMASK 027\nUID_MIN 1000\n"
    modes = {name: mode(etc / name) for name in ("secret.d", "secret.d/ours", "new.d", "new.d/ours", "login.defs")}
    assert modes == {
        "secret.d": 0o750,
        "secret.d/ours": 0o440,
        "new.d": 0o755,
        "new.d/ours": 0o644,
        "login.defs": 0o600,
    }

    before = everything(etc)
    for check in (True, False):
        result = run(**wanted, check=check, diff=True)
        assert (result["changed"], result["written"], result["corrected"], result["diff"]) == (False, [], [], [])
    assert everything(etc) == before

    wanted["files"][0]["content"] = "three\n"
    promised = run(**wanted, check=True, diff=True)
    assert everything(etc) == before
    assert run(**wanted, diff=True) == promised
    assert promised["written"] == [str(etc / "secret.d/ours")] and (etc / "secret.d/ours").read_text() == "three\n"


@pytest.mark.parametrize("wrong", [0o666, 0o400])
def test_wrong_permissions_of_a_declared_file_are_corrected(run: Run, etc: Path, wrong: int) -> None:
    files = [{"path": "ours", "content": "a\n"}]
    run(files=files)
    (etc / "ours").chmod(wrong)
    assert run(files=files, check=True)["corrected"] == [str(etc / "ours")]
    assert mode(etc / "ours") == wrong
    assert run(files=files)["changed"] and mode(etc / "ours") == 0o644
    assert not run(files=files)["changed"]


@pytest.mark.parametrize("command", ["grep -q good %s", "grep -q good"])
def test_a_text_that_the_command_refuses_is_never_in_place(run: Run, etc: Path, command: str) -> None:
    """The command gets it as a file, or as its input."""
    (etc / "sudoers").write_text("good\n")
    wanted = {"files": [{"path": "sudoers", "content": "bad\n", "validate": command}]}
    for check in (True, False):
        result = run(**wanted, check=check)
        assert result["failed"] and "sudoers was not changed: grep refuses" in result["msg"]
        assert (etc / "sudoers").read_text() == "good\n"
    wanted["files"][0]["content"] = "good again\n"
    assert run(**wanted)["changed"] and (etc / "sudoers").read_text() == "good again\n"


@pytest.mark.parametrize(("path", "command"), [("x", "no-such-command-here %s"), ("package/x", "false")])
def test_a_dry_run_does_not_need_a_command_that_is_installed_later(run: Run, path: str, command: str) -> None:
    wanted = {"files": [{"path": path, "content": "a", "validate": command}]}
    assert run(**wanted, check=True)["changed"]
    assert run(**wanted)["failed"]


def test_a_link_is_replaced_and_not_followed(run: Run, etc: Path) -> None:
    (etc / "target").write_text("theirs\n")
    (etc / "ours").symlink_to(etc / "target")
    assert run(files=[{"path": "ours", "content": "theirs\n"}])["changed"]
    assert not (etc / "ours").is_symlink() and (etc / "target").read_text() == "theirs\n"


def test_files_that_must_not_be_there_go(run: Run, etc: Path) -> None:
    (etc / "old").write_text("x")
    assert run(absent=["old", "never"], check=True)["removed"] == [str(etc / "old")] and (etc / "old").exists()
    assert run(absent=["old", "never"])["changed"] and not (etc / "old").exists()
    assert not run(absent=["old", "never"])["changed"]


def test_what_is_not_there_is_left_out(run: Run, etc: Path) -> None:
    missing = str(etc / "crontab")
    result = run(
        lines=[{"path": missing, "match": "a", "line": "a"}],
        permissions=[{"path": missing, "mode": "0600", "owner": "no-such-user"}],
    )
    assert not result["changed"] and not Path(missing).exists()


def test_permissions_of_a_links_target_are_not_touched(run: Run, etc: Path) -> None:
    (etc / "link").symlink_to(etc / "login.defs")
    assert not run(permissions=[{"path": str(etc / "link"), "mode": "0600", **ME}])["changed"]
    assert mode(etc / "login.defs") == 0o644


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "KEY new\n"),
        ("other\n", "other\nKEY new\n"),
        ("other", "other\nKEY new\n"),
        ("KEY a\nother\nKEY b\n", "KEY new\nother\n"),
        ("other\nKEY new\n", "other\nKEY new\n"),
        ("# KEY is explained here\nKEY a\n", "# KEY is explained here\nKEY new\n"),
    ],
)
def test_one_line_stands_for_all_that_match(before: str, after: str) -> None:
    assert host_files.with_line(before, r"^KEY\s", "KEY new") == after
    assert host_files.with_line(after, r"^KEY\s", "KEY new") == after


def test_a_changed_line_keeps_the_files_permissions(run: Run, etc: Path) -> None:
    (etc / "login.defs").chmod(0o600)
    run(lines=[{"path": str(etc / "login.defs"), "match": "^UMASK", "line": "UMASK 027"}])
    assert mode(etc / "login.defs") == 0o600


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "."])
def test_a_path_that_is_not_below_dest_is_refused(run: Run, path: str) -> None:
    result = run(files=[{"path": path, "content": "x"}])
    assert result["failed"]


def test_an_unknown_owner_is_named(run: Run, etc: Path) -> None:
    result = run(permissions=[{"path": str(etc / "login.defs"), "mode": "0600", "owner": "no-such-user"}])
    assert result["failed"] and "no-such-user" in result["msg"]
