# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a backup: the newest snapshot is restored where nothing can reach it, and compared with its manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

from openmates_backup import (
    credentials,
    locks,
    proof_cache,
    proof_database,
    proof_files,
    proof_vault,
    restic,
    room,
    signals,
)
from openmates_backup.config import Config
from openmates_backup.parts import FORMAT, MANIFEST
from openmates_backup.problem import Problem
from openmates_backup.proof_project import Project
from openmates_backup.proof_result import FAILED, PROVEN, UNPROVEN, Result
from openmates_backup.proof_vault import Unproven
from openmates_backup.repository import CLOCK_TOLERANCE, moment
from openmates_backup.restic import Restic
from openmates_backup.run import LOGIN, reason, say

STALE = 26 * 3600  # seconds: a day, and two hours for which a backup waits for a run
DATABASE_FACTOR = 3  # a database with its indexes and its log takes more than its dump
DATABASE_BASE = 256 << 20


class Interrupted(BaseException):
    """A signal ended the proof. No handler of errors takes it for the failure of a part."""


class GivesWay(Interrupted):
    """A run that changes the server has begun."""


def prove(config: Config, tell: Callable[[str], None] = say) -> dict[str, t.Any]:
    """Prove the newest snapshot and record it; the record. Raises Problem, which is recorded as well.

    Nothing is recorded if a backup, restore or another proof is under way.
    """
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = None
    with signals.raising(Interrupted, "The proof"):
        while record is None:
            record = attempt(config, tell)
    if record["problem"]:
        raise Problem(record["problem"])
    return record


def attempt(config: Config, tell: Callable[[str], None]) -> dict[str, t.Any] | None:
    """The record, be it good or not; None if the proof gave way. Raises Problem if another one is under way."""
    result = Result(config)
    try:
        locks.wait_for_runs(config.change_lock, config.rollout_lock, config.run_wait, config.look_every, tell)
    except (Problem, Interrupted) as problem:
        result.fail(str(problem))
        return result.write()
    with locks.exclusive(config.directory / "lock"):
        result.begin()
        try:
            with giving_way(config), cleaned(config):
                Proof(config, result, tell).run()
        except GivesWay:
            tell("a run that changes the server has begun: what was restored is removed")
            result.forget()
            return None
        except Interrupted as interrupted:
            result.fail(str(interrupted))
        except (Problem, OSError, KeyError, ValueError) as error:
            result.fail(reason(error))
        return result.write()


@contextlib.contextmanager
def giving_way(config: Config) -> Iterator[None]:
    """Raise GivesWay in this thread, whatever it waits for, once a run changes the server."""
    ended = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        if not ended.is_set():
            ended.set()
            raise GivesWay

    def watch() -> None:
        while not ended.wait(config.look_every):
            if locks.change_under_way(config.change_lock, config.rollout_lock):
                os.kill(os.getpid(), signal.SIGUSR1)
                with contextlib.suppress(Problem):  # what this thread waits for ends with its container
                    Project(config.project, {}).remove()
                return

    former = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, former)


def folder_of(config: Config) -> Path:
    return config.directory / "proof"


@contextlib.contextmanager
def cleaned(config: Config) -> Iterator[None]:
    """Remove what a proof leaves, before and after."""
    clean(config)
    (config.directory / "cache").mkdir(mode=0o700, exist_ok=True)
    folder_of(config).mkdir(mode=0o700)
    try:
        yield
    finally:
        clean(config)


def clean(config: Config) -> None:
    """Remove the containers, the volumes and the files of a proof. Raises Problem."""
    shutil.rmtree(folder_of(config), ignore_errors=True)
    Project(config.project, {}).remove()


def clean_up(config: Config) -> None:
    """After the unit has ended, however it did: remove what is left, and record a proof that was killed."""
    with contextlib.suppress(Problem), locks.exclusive(config.directory / "lock"):
        clean(config)
        result = Result(config)
        if result.running():
            result.fail(
                f"The proof was killed ({os.environ.get('SERVICE_RESULT', 'unknown')}): it may have needed more memory"
                " than it has. `sudo journalctl -u openmates-backup-proof` has its last step."
            )
            result.write()


@dataclasses.dataclass
class Proof:
    """One attempt."""

    config: Config
    result: Result
    tell: Callable[[str], None]

    def place(self, path: str) -> Path:
        """Where the file of a path of the server was restored to."""
        return folder_of(self.config) / path.lstrip("/")

    def run(self) -> None:
        """Each part, also if another one failed. Raises Problem and OSError if nothing could be restored."""
        with restic.opened(self.config, credentials.secrets(LOGIN)) as opened:
            manifest = self.fetch(opened)
        project = Project(self.config.project, manifest["images"])
        steps = {
            "files": lambda: proof_files.prove(manifest, self.place),
            "database": lambda: self.databases(project, manifest),
            "vault": lambda: self.vault(project, manifest),
            "cache": lambda: self.caches(project, manifest),
        }
        for part, step in steps.items():
            self.tell(f"proving: {part}")
            try:
                self.result.set(part, PROVEN, step())
            except Unproven as unproven:
                self.result.set(part, UNPROVEN, str(unproven))
            except (Problem, OSError, KeyError, ValueError) as error:
                self.result.set(part, FAILED, reason(error))
            self.tell(f"{part}: {self.result.parts[part]['state']}: {self.result.parts[part]['text']}")

    def fetch(self, opened: Restic) -> dict[str, t.Any]:
        """Restore the newest snapshot; its manifest. Raises Problem."""
        self.tell("looking for the newest snapshot")
        snapshot, problems = self.newest(opened)
        self.result.snapshot = snapshot["id"]
        manifest = json.loads(opened.dump(snapshot["id"], str(self.config.staging / MANIFEST)))
        if manifest.get("format") != FORMAT:
            raise Problem(f"The snapshot {snapshot['short_id']} has the format {manifest.get('format')}, not {FORMAT}.")
        own = {"host": self.config.host, "environment": self.config.environment}
        if other := {name: manifest[name] for name, value in own.items() if manifest[name] != value}:
            problems.append(f"The snapshot {snapshot['short_id']} is not of this server: its manifest has {other}.")
        self.check_space(manifest)
        self.tell(f"restoring the snapshot {snapshot['short_id']}")
        opened.call("restore", snapshot["id"], f"--target={folder_of(self.config)}")
        age = (time.time() - moment(snapshot["time"])) / 3600
        text = f"{snapshot['short_id']}, {age:.1f} h old, {proof_files.size(manifest)} bytes"
        self.result.set("snapshot", FAILED if problems else PROVEN, " ".join(problems) or text)
        return manifest

    def newest(self, opened: Restic) -> tuple[dict[str, t.Any], list[str]]:
        """The newest snapshot of this server, and what is wrong with its date. Raises Problem if there is none."""
        snapshots, now, problems = opened.snapshots(), time.time(), []
        future = [one for one in snapshots if moment(one["time"]) > now + CLOCK_TOLERANCE]
        if future:
            names = " ".join(one["short_id"] for one in future)
            problems.append(
                f"Snapshots are dated in the future: {names}. Set the server's clock (`timedatectl`), or, if the clock"
                f" was wrong when they were made, remove them: `sudo openmates-backup restic forget {names}`."
            )
        past = [one for one in snapshots if one not in future]
        if not past:
            raise Problem(
                f"{self.config.repository} (openmates_backup_repository) has no snapshot of {self.config.host} with the"
                f" tags {self.config.tags}. {' '.join(problems) or 'backup.yml makes one.'}"
            )
        age = now - moment(past[-1]["time"])
        if age > STALE:
            problems.append(
                f"The newest snapshot is {age / 3600:.0f} h old, and there should be one each day. `sudo journalctl -u"
                " openmates-backup` shows why there is none; backup.yml makes one."
            )
        return past[-1], problems

    def check_space(self, manifest: dict[str, t.Any]) -> None:
        """Raises Problem if a proof would fill a disk."""
        dumps = [dump["bytes"] for about in manifest["databases"].values() for dump in about["databases"].values()]
        needs = {
            self.config.directory: proof_files.size(manifest),
            self.config.docker_root: sum(dumps) * DATABASE_FACTOR + DATABASE_BASE,
        }
        room.check(
            needs,
            "a proof needs",
            " while it runs, about the size of the backup. Nothing was restored, so nothing is proven",
        )

    def databases(self, project: Project, manifest: dict[str, t.Any]) -> str:
        for about in manifest["databases"].values():
            for one in (about["globals"], *about["databases"].values()):
                proof_files.check_whole(self.place(one["file"]), one)
        return "; ".join(
            proof_database.prove(project, service, about, self.place)
            for service, about in manifest["databases"].items()
        )

    def vault(self, project: Project, manifest: dict[str, t.Any]) -> str:
        about = manifest["vault"]
        proof_files.check_whole(self.place(about["file"]), about)
        return proof_vault.prove(project, about, proof_vault.shares_of(self.config.vault_unseal), self.place)

    def caches(self, project: Project, manifest: dict[str, t.Any]) -> str:
        for about in manifest["caches"].values():
            proof_files.check_whole(self.place(about["file"]), about)
        return "; ".join(
            proof_cache.prove(project, service, about, self.place) for service, about in manifest["caches"].items()
        )
