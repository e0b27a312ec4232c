"""The decisions of the host_units module, and its calls of systemctl."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import units as module_utils
from ansible_collections.openmates.server.plugins.module_utils.units import actions, newest_change, seconds
from ansible_collections.openmates.server.plugins.modules import host_files
from ansible_collections.openmates.server.plugins.modules.host_units import main

STARTED = "Sun 2026-11-22 15:00:00.500000 UTC"
RUNNING = {
    **{"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"},
    **{"StateChangeTimestamp": STARTED, "ActiveEnterTimestamp": STARTED},
}


def test_systemds_timestamp_is_read() -> None:
    assert seconds("Thu 1970-01-01 00:01:00.250000 UTC") == 60.25
    assert seconds("") == 0


@pytest.mark.parametrize(
    ("unit", "running", "changed_after", "expected"),
    [
        ({}, True, -1, []),
        ({}, True, +1, ["reload"]),
        ({"UnitFileState": "disabled"}, True, -1, ["enable"]),
        ({"ActiveState": "inactive"}, True, +1, ["start"]),
        ({"ActiveState": "failed"}, True, -1, ["start"]),
        ({"ActiveState": "", "UnitFileState": "", "StateChangeTimestamp": ""}, True, +1, ["enable", "start"]),
        ({}, False, +1, ["disable", "stop"]),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, False, +1, []),
        ({"ActiveState": "failed", "UnitFileState": "disabled"}, False, +1, []),
    ],
)
def test_only_what_is_needed_is_done(unit, running, changed_after, expected) -> None:
    assert actions({**RUNNING, **unit}, running, seconds(STARTED) + changed_after, 0, "reload") == expected


@pytest.mark.parametrize(
    ("unit", "running", "restart_after", "expected"),
    [
        ({}, True, -1, []),
        ({}, True, +1, ["restart"]),
        # Reloaded since: that did not bring the drop-in into force.
        ({"StateChangeTimestamp": STARTED.replace("15:00", "16:00")}, True, +1, ["restart"]),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, False, +1, []),
    ],
)
def test_files_that_need_a_restart_get_one(unit, running, restart_after, expected) -> None:
    unchanged, changed = seconds(STARTED) - 1, seconds(STARTED) + restart_after
    assert actions({**RUNNING, **unit}, running, unchanged, changed, "reload") == expected


def test_a_replaced_file_counts_as_changed_even_with_an_old_modification_time(tmp_path: Path) -> None:
    file, replacement = tmp_path / "file", tmp_path / "replacement"
    file.write_text("old")
    before = newest_change([str(file)])
    replacement.write_text("new")
    os.utime(replacement, (0, 0))
    replacement.replace(file)
    assert newest_change([str(file), str(tmp_path / "missing")]) >= before > 0


@pytest.mark.parametrize("state", ["static", "generated", "alias"])
def test_what_cannot_be_enabled_is_only_started(state: str) -> None:
    unit = {**RUNNING, "UnitFileState": state}
    assert actions(unit, True, 0, 0, "reload") == []
    assert actions({**unit, "ActiveState": "inactive"}, True, 0, 0, "reload") == ["start"]


Host = Callable[..., tuple[dict, list[str]]]


@pytest.fixture
def host(run_module: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Run the module where `systemctl` is a script. It shows two.service and other units as `states` say."""
    script, asked = tmp_path / "systemctl", tmp_path / "asked"
    script.write_text(
        f"""#!{sys.executable}
import json, os, sys
verb, *words = sys.argv[1:]
states = json.loads(os.environ["STATES"])
if verb == "show":
    units = [word for word in words if not word.startswith("--")]
    shown = [{{**states[""], **states.get(unit, {{}})}} for unit in units]
    print("\\n\\n".join("\\n".join(f"{{key}}={{value}}" for key, value in unit.items()) for unit in shown))
else:
    print(*sys.argv[1:], file=open({str(asked)!r}, "a"))
    sys.exit(f"{{verb}} is refused" if os.environ["REFUSED"] == verb else 0)
"""
    )
    script.chmod(0o755)
    (tmp_path / "journalctl").write_text("#!/bin/sh\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(module_utils, "JOURNAL_SECONDS", 0.3)

    def run(
        *units: dict, refused: str = "", check: bool = False, files: tuple[dict, ...] = (), **states: dict
    ) -> tuple[dict, list[str]]:
        everywhere = {"": {**RUNNING, "LoadState": "loaded"}}
        by_unit = {name.replace("_", "."): state for name, state in states.items()}
        monkeypatch.setenv("STATES", json.dumps(everywhere | by_unit))
        monkeypatch.setenv("REFUSED", refused)
        asked.unlink(missing_ok=True)
        if files:
            result = run_module(host_files.main, units=list(units), files=list(files), check=check)
        else:
            result = run_module(main, units=list(units), check=check)
        return result, asked.read_text().splitlines() if asked.exists() else []

    return run


def test_several_units_in_one_call_each_by_its_own_files(host: Host, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.write_text("new")
    units = [{"name": "clock"}, {"name": "journal", "files": [str(changed)], "refresh": "restart"}]
    promised, asked = host(*units, check=True)
    assert promised["actions"] == ["restart journal"] and asked == []
    done, asked = host(*units)
    assert done["actions"] == promised["actions"] and asked == ["restart journal"]
    assert host()[0]["changed"] is False


def test_a_file_and_the_unit_that_reads_it_in_one_call(host: Host, tmp_path: Path) -> None:
    """A dry run, which writes nothing, reports the restart too."""
    path = str(tmp_path / "clock.conf")
    clock, file = {"name": "clock", "files": [path], "refresh": "restart"}, {"path": path, "content": "new\n"}
    promised, asked = host(clock, {"name": "other"}, files=(file,), check=True)
    assert (promised["written"], promised["actions"], asked) == ([path], ["restart clock"], [])
    done, asked = host(clock, {"name": "other"}, files=(file,))
    assert (done["written"], done["actions"], asked) == ([path], ["restart clock"], ["restart clock"])
    started = {"StateChangeTimestamp": STARTED.replace("2026", "2096")}
    assert host(clock, files=(file,), clock=started)[0]["changed"] is False
    refused, _ = host(clock, files=({**file, "content": "newer\n"},), refused="restart")
    assert refused["failed"] and "restart is refused" in refused["msg"]
    assert host(clock, files=({**file, "content": "newer\n"},))[1] == ["restart clock"], "the next run tries again"


@pytest.mark.parametrize(
    ("unit", "state", "expected"),
    [
        ("one.timer", {}, []),
        ("two.timer", {"ActiveState": "inactive"}, ["start two.timer"]),
        ("one.timer", {"UnitFileState": ""}, ["enable one.timer"]),
        ("two.service", {"NeedDaemonReload": "yes"}, ["daemon-reload"]),
        ("one.timer", {"NeedDaemonReload": "yes"}, ["daemon-reload"]),
        ("two.timer", {"NeedDaemonReload": "yes", "ActiveState": "inactive"}, ["daemon-reload", "start two.timer"]),
    ],
)
def test_timers_run_as_their_files_say(host: Host, unit: str, state: dict, expected: list[str]) -> None:
    """A timer counts as changed too when the service that it starts is."""
    timers = [{"name": "one.timer"}, {"name": "two.timer"}]
    states = {unit.replace(".", "_"): state}
    promised, asked = host(*timers, check=True, **states)
    assert (promised["actions"], asked) == (expected, [])
    assert host(*timers, **states)[1] == expected


def test_a_running_timer_with_a_new_file_is_restarted_after_systemd_has_read_it(host: Host, tmp_path: Path) -> None:
    """Even where it elapsed since: until it is started again, it goes by the old text."""
    (tmp_path / "file").write_text("new")
    timer = {"name": "one.timer", "restart_files": [str(tmp_path / "file")]}
    elapsed = {"NeedDaemonReload": "yes", "StateChangeTimestamp": STARTED.replace("2026", "2096")}
    assert host(timer, one_timer=elapsed)[1] == ["daemon-reload", "restart one.timer"]
    assert host(timer, one_timer={"ActiveEnterTimestamp": STARTED.replace("2026", "2096")})[1] == []


def test_a_unit_that_is_not_there_is_looked_for_again_and_then_named(host: Host) -> None:
    result, asked = host({"name": "swap"}, swap={"LoadState": "not-found"})
    assert asked == ["daemon-reload"]
    assert result["failed"] and "There is no unit swap. Install the package" in result["msg"]
    missing = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
    assert host({"name": "swap"}, check=True, swap=missing)[0]["actions"] == ["enable swap", "start swap"]
    assert host({"name": "swap", "state": "stopped"}, swap=missing)[1] == []


def test_a_service_that_ends_is_run_at_each_call(host: Host) -> None:
    assert host({"name": "once", "state": "run"}, check=True)[0]["actions"] == ["restart once"]
    assert host({"name": "once", "state": "run"})[1] == ["restart once"]


def test_a_unit_that_others_start_is_only_read_again(host: Host) -> None:
    assert host({"name": "job", "state": "loaded"}, job={"ActiveState": "inactive", "UnitFileState": "static"})[1] == []
    changed = {"NeedDaemonReload": "yes", "ActiveState": "activating"}
    assert host({"name": "job", "state": "loaded"}, job=changed)[1] == ["daemon-reload"], "a run of it goes on"


def test_a_unit_that_may_not_run_reads_its_files_only_if_it_does(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    unit = {"name": "network", "state": "refreshed", "files": [str(tmp_path / "file")]}
    assert host(unit)[1] == ["reload network"]
    assert host(unit, network={"UnitFileState": "disabled"})[1] == ["reload network"]
    assert host(unit, network={"ActiveState": "inactive", "UnitFileState": "disabled"})[1] == []
    assert host(unit, network={"LoadState": "not-found", "ActiveState": "inactive"})[1] == []


def test_a_failure_is_tried_again_by_the_next_run_and_names_the_command_for_its_log(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("new")
    before = file.stat().st_ctime
    result, _ = host({"name": "one.service", "restart_files": [str(file)]}, refused="restart")
    assert result["failed"] and "See: sudo journalctl --unit one.service" in result["msg"]
    assert "restart is refused" in result["msg"] and file.stat().st_ctime > before
    (tmp_path / "journalctl").write_text('#!/bin/sh\ncase "$1" in *=one.service) echo the; echo reason;; esac\n')
    result, _ = host({"name": "one", "restart_files": [str(file)]}, refused="restart")
    assert result["msg"] == "systemctl restart one failed: the reason"
