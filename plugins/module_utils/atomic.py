# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files atomically: an interrupted write leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile


def sync_folder(folder: pathlib.Path) -> None:
    """Make a rename or removal in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(
    path: pathlib.Path, content: bytes, mode: int, uid: int | None = None, gid: int | None = None
) -> None:
    """Write `content` to `path` so that a reader sees either the old file or the new one, with its owner and mode.

    `uid` and `gid` default to the caller's. The directory must exist. Raises OSError and then leaves no temporary file.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    temporary = pathlib.Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(file.fileno(), -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
