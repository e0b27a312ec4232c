#!/usr/bin/env python3
"""Runs a command, prefixes its lines with a name, and says every 20 silent seconds that it still runs.

Usage: lab/progress.py NAME COMMAND [ARGUMENT...]

For commands that run side by side, whose lines would be mixed up, and for those that print nothing for minutes.
Ends with the command's exit status; a command that a signal ended has 128 and the signal's number, as in a shell.

If FAILURES names a directory and the command fails, the lines that report the failure are written to its file NAME.
"""

from __future__ import annotations

import collections
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

SILENCE = 20.0  # seconds
#: Seconds for the lines that are still under way. A background process that holds the pipe must not hold this one.
AFTER_END = 2.0
#: pytest's summary, its lines of what was expected and found, and Ansible's failed tasks.
FAILED = re.compile(rb"(?:FAILED|ERROR) \S+::|E  |fatal: \[|\[ERROR\]: ")
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
LINES_SHOWN, LAST_LINES = 40, 15


class Failures:
    """The lines of an output that report a failure; the last ones if there is none."""

    def __init__(self) -> None:
        self.telling: collections.deque[bytes] = collections.deque(maxlen=LINES_SHOWN)
        self.last: collections.deque[bytes] = collections.deque(maxlen=LAST_LINES)

    def read(self, line: bytes) -> None:
        plain = COLOUR.sub(b"", line).rstrip(b"\r\n")
        self.last.append(plain)
        if FAILED.match(plain):
            self.telling.append(plain)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\n".join(self.telling or self.last) + b"\n")


class Prefixer:
    """Writes whole lines with the name in front, and a line of its own when nothing was written for a while."""

    def __init__(self, name: str, output: BinaryIO, silence: float = SILENCE) -> None:
        self.prefix = f"[{name}] ".encode()
        self.output = output
        self.silence = silence
        self.began = self.last = time.monotonic()
        self.lock = threading.Lock()
        self.failures = Failures()

    def write(self, line: bytes) -> None:
        with self.lock:  # one write: the lines of another process may come between
            self.output.write(self.prefix + line.rstrip(b"\r\n") + b"\n")
            self.output.flush()
            self.last = time.monotonic()

    def copy(self, source: BinaryIO) -> None:
        for line in source:
            self.failures.read(line)
            self.write(line)

    def watch(self, ended: threading.Event) -> None:
        """Break every silence until the event is set."""
        while not ended.wait(max(0.05, self.last + self.silence - time.monotonic())):
            now = time.monotonic()
            if now - self.last >= self.silence:
                minutes, seconds = divmod(int(now - self.began), 60)
                self.write(f"... still running, {minutes}:{seconds:02d} min".encode())


def main(arguments: list[str], output: BinaryIO, silence: float = SILENCE) -> int:
    """Returns the exit status. Raises OSError if the command cannot be started."""
    name, *command = arguments
    # The descriptors are passed on: make gives a sub-make its job server by them.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # Python holds lines for a pipe back, by the kilobyte
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, close_fds=False
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command too, which decides
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    prefixer = Prefixer(name, output, silence)
    ended = threading.Event()
    watcher = threading.Thread(target=prefixer.watch, args=(ended,), daemon=True)
    watcher.start()
    reader = threading.Thread(target=prefixer.copy, args=(process.stdout,), daemon=True)
    reader.start()
    status = process.wait()
    reader.join(AFTER_END)
    ended.set()
    watcher.join()
    if status and (folder := os.environ.get("FAILURES")):
        prefixer.failures.save(Path(folder) / name)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:], sys.stdout.buffer))
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
