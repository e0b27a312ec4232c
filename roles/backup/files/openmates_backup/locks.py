# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks: two backups exclude each other, and a backup does not begin during a change of the server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from openmates_backup import state
from openmates_backup.problem import Problem

try:
    from ansible_collections.openmates.server.plugins.module_utils.file_lock import locked
except ImportError:  # on the host it is beside this package
    from file_lock import locked

MOVE = "move"  # the playbook that has a backup made, and waits for it, so it changes nothing meanwhile
PAUSE = 0.5  # seconds between two attempts


@contextlib.contextmanager
def exclusive(path: Path, wait: float = 0) -> Iterator[None]:
    """Hold a lock that only one process can have. It ends with the process. Raises Problem if another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _take(descriptor, wait)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            holder = f" ({holder})" if holder else ""
            raise Problem(
                f"Another backup, proof or restore is under way{holder}. Run this again when it has ended."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}, since {state.now()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, wait: float) -> None:
    """Raises BlockingIOError if another process has the lock for longer than that."""
    end = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(PAUSE)


def change_under_way(change_lock: Path, rollout_lock: Path, apart_from: str = "") -> str:
    """What changes the server at the moment, empty if nothing does. `apart_from`: a playbook that may run.

    The change lock is touched only if a run is noted in it: a run that takes it just now must not be refused.
    """
    run = state.read(change_lock)
    if run and run.get("verb") != apart_from and locked(change_lock):
        return f"{run.get('verb')} by {run.get('who')}, since {run.get('begun')}"
    return "a roll-out" if locked(rollout_lock) else ""


def wait_for_runs(
    change_lock: Path,
    rollout_lock: Path,
    wait: float,
    every: float,
    say: Callable[[str], None],
    apart_from: str = "",
) -> None:
    """Return once nothing changes the server. Raises Problem after `wait` seconds."""
    end, said = time.monotonic() + wait, ""
    while run := change_under_way(change_lock, rollout_lock, apart_from):
        if time.monotonic() >= end:
            raise Problem(
                f"The server is still being changed after {wait / 60:.0f} minutes: {run}. Nothing was done. Run"
                " this again when that has ended."
            )
        if run != said:
            say(f"waiting for a run that changes the server: {run}")
            said = run
        time.sleep(every)
