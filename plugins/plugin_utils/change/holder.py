# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a host's lock for one run, and write the run's line of the history. Runs on the host.

The action plugin change_lock starts it over the run's own connection. Standard input is the run's lifeline: it is open
for as long as the run's process on the controller exists. Whatever ends that process, or cuts the connection, ends the
input, and with it the lock.

Input: one line with the request, and at the end of the run one with its outcome. Output: one JSON object per event.
Before a reboot that the run itself causes, a line {"reboot": true}: the note of the run then stays in the lock file,
and the run continues it when it takes the lock again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.5
ANCESTORS = 12  # how far up to look for sshd's variables: sudo removes them
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
INTERRUPTED = {"result": "interrupted"}
REBOOT = {"reboot": True}


class Ended(Exception):
    """The run, or this process, is to end."""


def main() -> int:
    """The exit status: 0 if the lock was held."""
    for number in SIGNALS:
        signal.signal(number, _end)
    request = json.loads(sys.stdin.buffer.readline())
    history = Path(request["history"])
    with contextlib.suppress(Ended), locked(Path(request["lock"]), float(request["wait"])) as lock:
        left = running(lock)
        run = {"begun": now(), **request["run"], "from": client()}
        if run.get("id") and left.get("id") == run["id"]:  # the same run, from before a reboot
            run, left = left, {}
        if left:
            append(history, left | INTERRUPTED | {"ended": ""})
        note(lock, run)
        outcome, rebooting = INTERRUPTED, False
        with contextlib.suppress(Ended, ValueError):
            moved = record_of_move(Path(request["lock"]))
            emit("locked", left=left, **({"move": moved} if moved else {}))
            line = json.loads(sys.stdin.buffer.readline())
            if line == REBOOT:
                rebooting = True
                emit("noted")
                line = json.loads(sys.stdin.buffer.readline())
            outcome, rebooting = line, False
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if rebooting:
            return 0
        problem = ""
        try:
            append(history, run | outcome | {"ended": now()})
            note(lock, {})
        except OSError as error:  # such as a full disk: the next run finds the note
            problem = f"{error.filename or history}: {error.strerror}"
        emit("recorded", problem=problem)
        return 0
    return 1


def _end(*_: object) -> None:
    raise Ended


@contextlib.contextmanager
def locked(path: Path, wait: float) -> Iterator[int]:
    """The open lock file. Raises Ended if it stays locked for too long, or if the run ends before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + wait
    said = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    emit("refused", holder=running(descriptor))
                    raise Ended from None
                if not said:
                    emit("waiting", holder=running(descriptor))
                    said = True
                if select.select([sys.stdin], [], [], min(POLL_SECONDS, left))[0]:
                    raise Ended from None  # nothing but the end of the input comes before the lock
        yield descriptor
    finally:
        os.close(descriptor)


def running(lock: int) -> dict:
    """The run that is noted in the lock file. One whose lock is free did not end by itself."""
    try:
        found = json.loads(os.pread(lock, 1 << 16, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def record_of_move(lock: Path) -> dict:
    """What this server has recorded of a move to or from another one, beside its lock; empty without a move."""
    try:
        found = json.loads(lock.with_name("move.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(lock: int, run: dict) -> None:
    """Replace the lock file's content; the file itself must stay the one that is locked."""
    os.ftruncate(lock, 0)
    if run:
        os.pwrite(lock, json.dumps(run).encode(), 0)
    os.fsync(lock)


def append(history: Path, entry: dict) -> None:
    """Add a line. The file is opened for each, so that it can be rotated."""
    history.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(history, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        os.fchmod(descriptor, 0o640)
        size = os.fstat(descriptor).st_size
        # After a power cut the last line may be half a line.
        start = b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
        os.write(descriptor, start + json.dumps(entry).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def client() -> str:
    """The address that the run's SSH connection comes from; empty without one."""
    process = os.getpid()
    for _ in range(ANCESTORS):
        with contextlib.suppress(OSError):
            for variable in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == b"SSH_CONNECTION" and value:
                    return value.split()[0].decode(errors="replace")
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        if process <= 1:
            break
    return ""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def emit(event: str, **more: object) -> None:
    """Tell the run, if it still exists."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"event": event, **more}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
