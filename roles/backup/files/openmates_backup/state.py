# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small JSON files of the backup's own state."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
except ImportError:  # on the host it is beside this package
    from atomic import write_atomically


def read(path: Path) -> dict[str, t.Any]:
    """Empty if there is no such file, or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def write(path: Path, data: dict[str, t.Any]) -> None:
    """For root only, and as a whole."""
    write_atomically(path, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode(), 0o600)


def now() -> str:
    """The time in UTC, as everything here is dated."""
    return stamp(time.time())


def stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
