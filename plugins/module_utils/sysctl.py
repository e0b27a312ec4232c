# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare kernel settings with the running kernel, and set those that differ."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/proc/sys")


def places(name: str) -> list[Path]:
    """Paths of a setting, one per interface if the name has a star. Dots and slashes are swapped."""
    relative = name.translate(str.maketrans("./", "/."))
    return sorted(ROOT.glob(relative)) if "*" in relative else [path for path in [ROOT / relative] if path.exists()]


def current(path: Path) -> str | None:
    """A setting's current value with single spaces, None if it cannot be read."""
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return None


def set_value(path: Path, value: str) -> bool:
    """Whether the kernel accepted the value."""
    try:
        path.write_text(value)
    except OSError:
        return False
    return True


def apply(settings: list[dict], dry: bool) -> tuple[list[dict[str, str]], list[str]]:
    """Apply the settings to the running kernel; returns the differences and the names of skipped settings."""
    differed, left = [], []
    for setting in settings:
        value, found, refused = " ".join(setting["value"].split()), places(setting["name"]), False
        for path in found:
            before = current(path)
            if before == value:
                continue
            if os.access(path, os.W_OK) and (dry or set_value(path, value)):
                name = str(path.relative_to(ROOT)).translate(str.maketrans("./", "/."))
                differed.append({"name": name, "before": before or "", "after": value})
            elif path.exists():  # an interface may have been removed meanwhile
                refused = True
        if refused or not found:
            left.append(setting["name"])
    return differed, left
