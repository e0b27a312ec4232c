"""Kill a run of Ansible as a power failure of the controller would."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from moments import Moment

DEADLINE = 900  # seconds until a run is killed whose moment does not come


class MomentMissed(Exception):
    """The run ended before the moment, or the moment never came."""


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


def kill_at(
    moment: Moment,
    command: list[str],
    on_host: Callable[[str], bool],
    cwd: Path,
    environment: Mapping[str, str],
    deadline: float = DEADLINE,
) -> None:
    """Start a playbook and kill it, with everything it started, at that moment.

    `on_host` runs a shell command on the host and returns whether it succeeded. Raises MomentMissed.
    """
    # Ansible names a task with its first result; on standard error it is named after 15 seconds.
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watchdog = threading.Timer(deadline, kill_with_all_it_started, (process.pid,))
    watchdog.start()
    begun, last = False, []
    try:
        for line in process.stdout or ():
            last = [*last[-40:], line]
            begun = begun or moment.begins_with(line)
            if begun:
                while moment.command and process.poll() is None and not on_host(moment.command):
                    pass  # the command on the host takes its time: this does not spin
                break
    finally:
        watchdog.cancel()
        killed = process.poll() is None
        if killed:
            kill_with_all_it_started(process.pid)
        process.wait()
    if not (begun and killed):
        raise MomentMissed(f"the run never was in the middle of {moment}:\n{''.join(last)}")
