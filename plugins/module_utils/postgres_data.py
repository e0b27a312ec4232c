# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the volume of a PostgreSQL database holds, by its files.

Standard library only."""

from __future__ import annotations

from pathlib import Path

UNKNOWN = "unknown"
#: A first start that has not ended, or one that was interrupted, and what file systems have by themselves.
UNFINISHED = (".first-start", ".incomplete.moving")
NO_DATA = {".incomplete", "lost+found"}


def version(volume: Path) -> str:
    """The major version whose data a directory holds, empty without data, UNKNOWN for files of something else."""
    try:
        names = {path.name for path in volume.iterdir()}
    except FileNotFoundError:
        return ""
    if "PG_VERSION" in names:
        found = (volume / "PG_VERSION").read_text(errors="replace").strip()
        return found if found.replace(".", "").isdigit() else UNKNOWN
    return "" if names.intersection(UNFINISHED) or names <= NO_DATA else UNKNOWN
