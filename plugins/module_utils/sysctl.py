# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare kernel settings with the running kernel, and set those that differ."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/proc/sys")

#: The file of the role hardening, and where systemd reads such files from; a later folder's is covered by a namesake.
OURS = "zz-openmates.conf"
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")


def set_later(root: Path = Path("/")) -> list[dict[str, str]]:
    """What files of sysctl.d set at boot after ours, as systemd sorts them: by name, whatever their folder."""
    files: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in (root / folder).glob("*.conf"):
            files.setdefault(path.name, path)
    found = []
    for _, path in sorted(item for item in files.items() if item[0] > OURS):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and name and name[0] not in "#;":
                dotted = name.strip().removeprefix("-")
                dotted = dotted if "." in dotted.partition("/")[0] else dotted.translate(str.maketrans("./", "/."))
                shown = f"/{path.relative_to(root)}"
                found.append({"path": shown, "name": dotted, "value": " ".join(value.split())})
    return found


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
