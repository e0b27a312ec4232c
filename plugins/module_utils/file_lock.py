# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of files, as programs on the host hold them. Standard library only: the outage watcher uses it there, too."""

from __future__ import annotations

import fcntl
from pathlib import Path


def locked(file: Path) -> bool:
    """Whether another process holds a lock of a file."""
    try:
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file, so no lock of it
        pass
    return False
