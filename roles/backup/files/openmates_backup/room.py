# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room on the disks, which is checked before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from openmates_backup.problem import Problem

SPARE = 256 << 20  # bytes that stay free on each disk


def check(needs: Mapping[Path, int], who: str, note: str) -> None:
    """Raises Problem if what is written below these directories, in bytes, would fill a disk.

    `who` begins the second half of the message, such as `a backup needs`; `note` ends its sentence.
    """
    disks: dict[int, list[Path]] = {}
    for folder in needs:
        disks.setdefault(folder.stat().st_dev, []).append(folder)
    for folders in disks.values():
        needed = sum(needs[folder] for folder in folders) + SPARE
        free = shutil.disk_usage(folders[0]).free
        if free < needed:
            raise Problem(
                f"The disk of {' and '.join(map(str, folders))} has {free >> 20} MiB free, and {who} {needed >> 20} MiB"
                f" there{note}. Free some space or use a larger disk: `sudo du -xh --max-depth=2 / | sort -h | tail`"
                " shows what takes most."
            )
