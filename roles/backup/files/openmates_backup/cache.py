# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache's own snapshot: pending orders, chats and tasks are in the cache only."""

from __future__ import annotations

import shutil
import time
import typing as t
from pathlib import Path

from openmates_backup import commands, files, state
from openmates_backup.containers import Containers
from openmates_backup.problem import Problem

#: Inside the container, so that the password is in no argument.
CLIENT = 'REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) exec redis-cli -e --raw "$@"'
SECONDS = 300
PAUSE = 0.2
MAGIC = b"REDIS"


class Cache:
    """Dragonfly, or what stands in for it."""

    def __init__(self, containers: Containers, service: str) -> None:
        self.containers, self.service = containers, service

    def ask(self, *words: str) -> str:
        """Raises Problem."""
        command = self.containers.inside(self.service, "sh", "-c", CLIENT, "sh", *words)
        return commands.output(command, f"{words[0]} of the service {self.service}").decode(errors="replace").strip()

    def info(self, section: str) -> dict[str, str]:
        lines = self.ask("INFO", section).splitlines()
        return dict(line.strip().split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def keys(self) -> int:
        """How many keys there are in all of its databases. Raises Problem."""
        databases = [value for name, value in self.info("keyspace").items() if name.startswith("db")]
        return sum(
            int(part.partition("=")[2]) for value in databases for part in value.split(",") if part.startswith("keys=")
        )

    def back_up(self, volume: Path, path: Path) -> dict[str, t.Any]:
        """Have it write its snapshot, and copy that. Raises Problem."""
        saved, keys = self.save(), self.keys()
        found = sorted(volume.glob("*.rdb"), key=lambda file: file.stat().st_mtime)
        if not found or found[-1].stat().st_mtime < saved - 1:
            raise Problem(f"The service {self.service} reports a snapshot that is not in {volume}. See its log.")
        path.parent.mkdir(parents=True)
        shutil.copyfile(found[-1], path)  # it is replaced and never written to, so the copy is one of a moment
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise Problem(f"{found[-1]} is not a snapshot of the cache.")
        described = files.described(path)
        return {"time": state.stamp(saved), "keys": keys, "persisted_as": found[-1].name, **described}

    def save(self) -> int:
        """Write a snapshot that begins now; the time at which the cache says that it was written. Raises Problem."""
        end = time.monotonic() + SECONDS
        before = int(self.ask("LASTSAVE"))
        asked = False
        while True:
            # The time has whole seconds: a second snapshot within one could not be told from the first.
            if not asked and int(self.ask("TIME").split()[0]) > before:
                before, asked = int(self.ask("LASTSAVE")), self.begin()
            saved = int(self.ask("LASTSAVE")) if asked else before
            if saved > before:
                return saved
            persistence = self.info("persistence") if asked else {}
            failed = (
                persistence.get("rdb_last_bgsave_status") == "err" and persistence.get("rdb_bgsave_in_progress") == "0"
            )
            if failed or time.monotonic() > end:
                late = "" if failed else f" within {SECONDS} s"
                raise Problem(
                    f"The service {self.service} wrote no snapshot{late}: its disk may be full. See:"
                    f" sudo docker compose logs {self.service}"
                )
            time.sleep(PAUSE)

    def begin(self) -> bool:
        """Whether it begins a snapshot: not while it writes one already, which may lack the last changes."""
        try:
            self.ask("BGSAVE")
        except Problem as problem:
            if "progress" in str(problem):
                return False
            raise
        return True
