# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore files from a snapshot. Used by a module, and by a service on the host unless it is disarmed in time.

A guard is a directory that only root can enter. It is armed while it holds a snapshot, which has the former files, the
commands that make them effective, and the deadline. It is written before the first file changes and removed last.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import pathlib
import shlex
import stat
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterable, Iterator

try:
    from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically
except ImportError:  # on the host, both files are in one directory
    from atomic import sync_folder, write_atomically

BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")
COMMAND_SECONDS = 90


class CommandFailed(Exception):
    """A command failed; the text is its output."""


def run(command: str) -> str:
    """Standard output of a command, which is split as by a shell but not run by one. Raises CommandFailed."""
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{command}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")[-2000:]
        raise CommandFailed(f"{command}: {said}")
    return done.stdout


def now() -> float:
    """Seconds since the machine was started, which a correction of the clock does not change."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def look(path: pathlib.Path) -> dict[str, t.Any] | None:
    """Everything that is needed to restore the file; None if it does not exist. Raises OSError for a directory."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return {"link": str(path.readlink())}
    return {
        "content": base64.b64encode(path.read_bytes()).decode(),
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def put_back(path: pathlib.Path, was: dict[str, t.Any] | None) -> None:
    """Restore a file to the state that `look` returned."""
    if was is not None and "link" not in was:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, base64.b64decode(was["content"]), was["mode"], was["uid"], was["gid"])
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    if was is not None:
        path.symlink_to(was["link"])
    if path.parent.is_dir():
        sync_folder(path.parent)


class Guard:
    """One guard and its snapshot."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.file = folder / "snapshot.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out the rollback during a run, and the reverse. The lock of a killed process is released."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def snapshot(self) -> dict[str, t.Any] | None:
        """The snapshot of an armed guard; None if it is not armed."""
        try:
            return json.loads(self.file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def arm(self, paths: Iterable[pathlib.Path], commands: list[str], seconds: float) -> None:
        """Take a snapshot of the files, unless an interrupted run took one before it changed them."""
        known = (self.snapshot() or {"files": {}})["files"]
        snapshot = {
            "files": {str(path): look(path) for path in paths} | known,
            "commands": commands,
            "seconds": seconds,
            "boot": BOOT.read_text(),
            "deadline": now() + seconds,
        }
        write_atomically(self.file, json.dumps(snapshot).encode(), 0o600)

    def disarm(self) -> None:
        """Keep the files."""
        self.file.unlink()
        sync_folder(self.folder)

    def restore(self, with_commands: bool = True) -> None:
        """Restore all files, make them effective, and only then remove the snapshot. Raises OSError, CommandFailed."""
        snapshot = self.snapshot()
        if snapshot is None:
            return
        for path, was in snapshot["files"].items():
            put_back(pathlib.Path(path), was)
        for command in snapshot["commands"] if with_commands else []:
            run(command)
        self.disarm()

    def restore_in_time(self) -> str:
        """Wait for the snapshot's deadline, which may be extended, and restore. Returns the outcome."""
        started = now()
        while True:
            with self.locked():
                snapshot = self.snapshot()
                if snapshot is None:
                    return "The new configuration was confirmed."
                same_boot = snapshot["boot"] == BOOT.read_text()
                # After a reboot the full time starts again: the run may still be in progress.
                left = (snapshot["deadline"] if same_boot else started + snapshot["seconds"]) - now()
                if left <= 0:
                    self.restore()
                    return f"The new configuration was not confirmed in time: restored {', '.join(snapshot['files'])}."
            time.sleep(left)


if __name__ == "__main__":
    print(Guard(pathlib.Path(sys.argv[1])).restore_in_time())
