# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs that changed this host, and a move of it, as their own records have them."""

from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

#: The last runs that are returned: enough to find the one that made a container.
LINES = 300


def found(history: Path, lock: Path, locks: Path = Path("/proc/locks")) -> dict[str, t.Any]:
    """`ended`: the last runs, the newest last; `running`: the one that holds the lock now, or empty."""
    try:
        lines = history.read_text(errors="replace").splitlines()[-LINES:]
    except OSError:
        lines = []
    return {"ended": [entry for entry in map(_entry, lines) if entry], "running": _running(lock, locks)}


def record(file: Path) -> dict[str, t.Any]:
    """What a file with a JSON object has; empty without one."""
    try:
        return _entry(file.read_text(errors="replace"))
    except OSError:
        return {}


def _running(lock: Path, locks: Path) -> dict[str, t.Any]:
    """The note of the run that holds the lock. That of a run that was killed stays in the file, without a lock.

    The lock is not tried, not even for a moment: a run that begins just then would be refused.
    """
    with contextlib.suppress(OSError):
        inode = str(lock.stat().st_ino)
        fields = [line.split() for line in locks.read_text().splitlines()]
        if any("FLOCK" in line and line[-3].rpartition(":")[2] == inode for line in fields if len(line) > 5):
            return _entry(lock.read_text(errors="replace"))
    return {}


def _entry(text: str) -> dict[str, t.Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}
