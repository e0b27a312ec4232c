"""Kill a run of Ansible as a power failure of the controller would."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_with_all_it_started(pid: int) -> None:
    """Kill a process and its descendants. A process group would leave out Ansible's workers: they leave it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
