"""The decisions of the service_current module."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules.service_current import actions, main, newest_change, seconds

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
        ({"NeedDaemonReload": "yes"}, True, +1, ["daemon-reload", "restart"]),
        ({"NeedDaemonReload": "yes"}, True, -1, ["daemon-reload"]),
        ({"NeedDaemonReload": "yes", "ActiveState": "inactive"}, True, +1, ["daemon-reload", "start"]),
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


def test_several_services_in_one_call_each_by_its_own_files(
    run_module: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`systemctl` is a script with two running units that records its calls."""
    script, asked, changed = tmp_path / "systemctl", tmp_path / "asked", tmp_path / "changed"
    shown = "".join(f"{key}={value}\n" for key, value in {**RUNNING, "LoadState": "loaded"}.items())
    script.write_text(f'#!/bin/sh\n[ "$1" = show ] && cat <<E\n{shown}E\n[ "$1" = show ] || echo "$@" >> {asked}\n')
    script.chmod(0o755)
    changed.write_text("new")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    services = [{"name": "clock"}, {"name": "journal", "files": [str(changed)], "refresh": "restart"}]
    promised = run_module(main, services=services, check=True)
    assert promised["actions"] == ["restart journal"] and not asked.exists()
    assert run_module(main, services=services)["actions"] == promised["actions"]
    assert asked.read_text() == "restart journal\n"
    assert run_module(main, services=[])["changed"] is False


def test_one_service_or_several_but_not_both(run_module: Callable[..., dict]) -> None:
    assert run_module(main, name="a", services=[{"name": "b"}])["failed"]
    assert run_module(main)["failed"]
