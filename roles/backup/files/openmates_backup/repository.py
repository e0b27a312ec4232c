# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup does with the repository: set it up once, store a snapshot, keep it small and known to be whole."""

from __future__ import annotations

import datetime
import time
import typing as t
from collections.abc import Collection
from pathlib import Path

from openmates_backup import state
from openmates_backup.config import Config
from openmates_backup.problem import Problem
from openmates_backup.restic import INCOMPLETE, NoRepository, Restic

READ_ALL_IN = 30  # days in which a check has read all data once
CLOCK_TOLERANCE = 600  # seconds
VANISHED = "no such file or directory"


class Repository:
    """The repository of this host."""

    def __init__(self, config: Config, restic: Restic) -> None:
        self.config, self.restic = config, restic
        self.marker = config.directory / "repository.json"

    def prepare(self) -> None:
        """Make the repository at the first backup, and remove locks of programs that are dead. Raises Problem.

        One that was there before is not made again: an unmounted disk would look like that.
        """
        known = state.read(self.marker)
        known = known if known.get("repository") == self.config.repository else {}
        try:
            found = self.restic.repository_id()
        except NoRepository:
            if known:
                raise Problem(
                    f"The repository {self.config.repository} (openmates_backup_repository), which had backups of this"
                    " server, is not there any more. If it is on a disk of its own, mount that. If it is lost and a new"
                    f" one is to be made, remove {self.marker}."
                ) from None
            self.restic.call("init")
            found = self.restic.repository_id()
        if known.get("id", found) != found:
            raise Problem(
                f"At {self.config.repository} (openmates_backup_repository) is another repository than before. Bring"
                f" the former one back, or, if this one is to be used, remove {self.marker}."
            )
        if not known:
            state.write(self.marker, {"repository": self.config.repository, "id": found})
        self.restic.call("unlock")

    def store(self, paths: Collection[Path], excluded: Collection[Path]) -> dict[str, t.Any]:
        """Store a snapshot; what restic says of it. Raises Problem, and then there is none."""
        arguments = [f"--host={self.config.host}", f"--tag={self.config.tags}", "--group-by=host"]
        arguments += [f"--exclude={escaped(path)}" for path in sorted(excluded)]
        code, messages = self.restic.lines("backup", *arguments, *map(str, sorted(paths)), accept=(0, INCOMPLETE))
        summary = next((found for found in messages if found.get("message_type") == "summary"), None)
        if summary is None or not summary.get("snapshot_id"):
            raise Problem("`restic backup` ended without a snapshot.")
        failed = {
            found.get("item", ""): (found.get("error") or {}).get("message", "")
            for found in messages
            if found.get("message_type") == "error"
        }
        unread = {item: why for item, why in failed.items() if VANISHED not in why}
        if code == INCOMPLETE and (unread or not failed):
            self.restic.call("forget", summary["snapshot_id"])
            reasons = [f"{item}: {why}" for item, why in list(unread.items())[:3]]
            raise Problem(f"{len(unread) or 'Some'} files could not be read: {'; '.join(reasons)}.")
        return summary

    def check_dates(self) -> list[dict[str, t.Any]]:
        """The snapshots. Raises Problem if one is from the future: the rules of retention would keep it for ever."""
        snapshots, now = self.restic.snapshots(), time.time()
        wrong = [one["short_id"] for one in snapshots if moment(one["time"]) > now + CLOCK_TOLERANCE]
        if wrong:
            raise Problem(
                f"Snapshots are dated in the future: {', '.join(wrong)}. Nothing was removed. Set the server's clock"
                " (`timedatectl`), or, if the clock was wrong when they were made, remove them: `sudo openmates-backup"
                f" restic forget {' '.join(wrong)}`."
            )
        return snapshots

    def tidy(self) -> None:
        """Remove the snapshots of this host that are too old, and what only they needed. Raises Problem."""
        keep = [f"--keep-{name}={count}" for name, count in self.config.keep.items() if count]
        own = [f"--host={self.config.host}", f"--tag={self.config.tags}", "--group-by=host"]
        self.restic.call("forget", *own, *keep, "--prune")

    def check(self) -> None:
        """Raises Problem unless the repository is whole. A part of the data is read each day, all of it in a month."""
        part = int(time.time() // 86400) % READ_ALL_IN + 1
        try:
            self.restic.call("check", f"--read-data-subset={part}/{READ_ALL_IN}")
        except Problem as problem:
            raise Problem(f"The check of the repository found it damaged, or could not end: {problem}") from None

    def size(self) -> int:
        """The bytes that all snapshots of the repository take. Raises Problem."""
        return int(self.restic.json("stats", "--mode=raw-data", "--no-lock")["total_size"])


def escaped(path: Path) -> str:
    """A path as a pattern that matches nothing else."""
    return "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in str(path))


def moment(text: str) -> float:
    """Seconds since 1970 of restic's 2026-11-27T03:30:02.123456789Z, or with an offset."""
    whole, zone = text[:19], text[19:].lstrip(".0123456789")
    return datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp()
