"""The decisions of the service_current module."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules.service_current import actions, newest_change, seconds

STARTED = "Sun 2026-11-22 15:00:00.500000 UTC"
RUNNING = {"ActiveState": "active", "UnitFileState": "enabled", "StateChangeTimestamp": STARTED}


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
    assert actions({**RUNNING, **unit}, running, seconds(STARTED) + changed_after, "reload") == expected


def test_a_replaced_file_counts_as_changed_even_with_an_old_modification_time(tmp_path: Path) -> None:
    file, replacement = tmp_path / "file", tmp_path / "replacement"
    file.write_text("old")
    before = newest_change([str(file)])
    replacement.write_text("new")
    os.utime(replacement, (0, 0))
    replacement.replace(file)
    assert newest_change([str(file), str(tmp_path / "missing")]) >= before > 0
