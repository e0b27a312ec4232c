# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore, in steps that playbooks/restore.yml calls one after the other: see docs/backup.md.

`plan` checks everything and changes nothing. `begin` fetches and checks the copies, and notes that a restore is under
way: from there on no backup is made, and the same restore may be repeated. `put` replaces everything but Vault, whose
keys the controller has. `prove` checks the result once the services run, and `end` removes the note.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import http.client
import json
import shutil
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from openmates_backup import credentials, files, locks, postgres_restore, restic, restore_files, state
from openmates_backup.cache import Cache
from openmates_backup.config import Config
from openmates_backup.postgres import Databases
from openmates_backup.problem import Problem
from openmates_backup.restic import Restic
from openmates_backup.restore_choice import LATEST, choose, environment_of, manifest_of
from openmates_backup.restore_parts import CACHE, DATABASE, VAULT, Part, chosen, parts_of, users
from openmates_backup.restore_target import SECONDS, Target
from openmates_backup.run import LOGIN
from openmates_backup.vault import checked

LOGGED_IN = "secrets/vault-data/api.token"


@dataclasses.dataclass(frozen=True)
class Request:
    """What an operator asks for. `majors`: the version of Postgres that is declared, by service."""

    snapshot: str = LATEST
    only: tuple[str, ...] = ()
    origin: str = ""
    replace: bool = False
    majors: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Restore:
    """Restores into this server."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.config, self.say, self.target = config, say, Target(config)
        self.folder, self.note = config.restoring, config.restore_note

    @contextlib.contextmanager
    def opened(self) -> Iterator[Restic]:
        """The repository, while no backup is made. A proof, and a step of this restore left running, are waited for."""
        (self.config.directory / "cache").mkdir(mode=0o700, parents=True, exist_ok=True)
        wait = self.config.lock_wait if self.note.exists() else self.config.give_way
        lock = locks.exclusive(self.config.directory / "lock", wait)
        with lock, restic.opened(self.config, credentials.secrets(LOGIN)) as found:
            yield found

    # ------------------------------------------------------------ plan

    def plan(self, request: Request) -> dict[str, t.Any]:
        """What would be restored. Raises Problem with all reasons why it must not be."""
        with self.opened() as opened:
            return self._plan(opened, request)[0]

    def _plan(self, opened: Restic, request: Request) -> tuple[dict[str, t.Any], dict[str, Part]]:
        note = state.read(self.note)
        snapshot = choose(opened, self.config, self._wanted(request, note), request.origin)
        manifest = manifest_of(opened, self.config, snapshot)
        parts = chosen(parts_of(manifest, self.config), request.only)
        running = self.target.running()
        begun = note["parts"] if note.get("snapshot") == snapshot["id"] else []  # they need no word again
        held = [name for name, part in parts.items() if name not in begun and self.target.holds(part, running)]
        problems = [
            *self._unfinished(note, parts),
            *self._majors(parts, running, request),
            *self._held(held, request),
            *self._room(parts),
        ]
        if problems:
            raise Problem("\n".join(problems))
        return {
            "snapshot": snapshot["id"],
            "host": snapshot["hostname"],
            "environment": environment_of(snapshot),
            "time": manifest["started"],
            "parts": [self.shown(part) for part in parts.values()],
            "left_out": sorted(set(self.config.volumes) & self._missing(manifest)) if not request.only else [],
            "replaces": [name for name in parts if name in held],
            "stops": users(parts.values(), self.config.project, running),
            "continues": bool(begun),
            "proven": begun == list(parts) and note.get("proven", False),
            "images": manifest["images"],
            "stack_differs": restore_files.stack_differences(self.config, manifest["trees"]["stack"]),
            "vault_copy": str(self.folder / "files" / Path(manifest["vault"]["file"]).name) if VAULT in parts else "",
        }, parts

    @staticmethod
    def _wanted(request: Request, note: Mapping[str, t.Any]) -> str:
        """A repeated restore of the latest snapshot goes on with the one that was the latest at its beginning."""
        return note["snapshot"] if request.snapshot == LATEST and note else request.snapshot

    def _missing(self, manifest: Mapping[str, t.Any]) -> set[str]:
        """The volumes with files that this server has and the snapshot has not."""
        stored = {name for name, about in manifest["volumes"].items() if about["rule"] == "files"}
        return {name for name, about in self.config.volumes.items() if about["rule"] == "files"} - stored

    @staticmethod
    def shown(part: Part) -> dict[str, t.Any]:
        return {"name": part.name, "kind": part.kind, "time": part.time, "bytes": part.bytes}

    def _unfinished(self, note: Mapping[str, t.Any], parts: Mapping[str, Part]) -> Iterator[str]:
        lacking = [name for name in note.get("parts", []) if name not in parts]
        if lacking:
            yield (
                f"A restore of snapshot {note['snapshot'][:8]} has not ended, and this one leaves out"
                f" {', '.join(lacking)}. Repeat that one, or restore all parts of another snapshot. If the data is to"
                f" stay as it is now, remove {self.note}."
            )

    def _majors(self, parts: Mapping[str, Part], running: t.Collection[str], request: Request) -> Iterator[str]:
        for part in parts.values():
            if part.kind == DATABASE:
                here, there = self.target.major(part, running, request.majors), part.about["major"]
                if here is not None and here < there:
                    yield (
                        f"The snapshot's {part.name} is PostgreSQL {there}, and this server's is {here}, which is older"
                        f" and cannot read it. Set openmates_services.{part.name}.image to a version of PostgreSQL"
                        f" {there} or later, run site.yml on a server without data, and restore there."
                    )

    def _held(self, held: list[str], request: Request) -> Iterator[str]:
        if held and not request.replace:
            yield (
                f"{self.config.host} holds data that would be replaced: {', '.join(held)}. If that is meant, add"
                f" -e restore_replace={self.config.host}"
            )

    def _room(self, parts: Mapping[str, Part]) -> Iterator[str]:
        try:
            self.target.check_room(parts.values())
        except Problem as problem:
            yield str(problem)

    # ------------------------------------------------------------ begin

    def begin(self, request: Request) -> dict[str, t.Any]:
        """Fetch and check the copies, then note that the restore is under way. Raises Problem."""
        with self.opened() as opened:
            plan, parts = self._plan(opened, request)
            if plan["proven"]:  # all that is left to do is its end
                return plan
            manifest = manifest_of(opened, self.config, {"id": plan["snapshot"], "short_id": plan["snapshot"][:8]})
            before = state.read(self.note)
            wanted = self._fetch(opened, plan["snapshot"], parts)
            if VAULT in parts:
                checked(wanted[manifest["vault"]["file"]])
            begun = before["begun"] if plan["continues"] else state.now()
            state.write(
                self.note,
                {
                    "snapshot": plan["snapshot"],
                    "parts": list(parts),
                    "begun": begun,
                    "done": {},
                    "manifest": manifest,
                },
            )
        return plan

    def _fetch(self, opened: Restic, snapshot: str, parts: Mapping[str, Part]) -> dict[str, Path]:
        """The copies by their path in the snapshot, with the content that the manifest has. Raises Problem."""
        folder = self.folder / "files"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {}
        for part in parts.values():
            for copy in part.copies:
                path = found[copy["file"]] = self.place(part, copy)
                if not same(path, copy):
                    self.say(f"fetching {path.name}")
                    opened.save(snapshot, copy["file"], path)
                if not same(path, copy):
                    raise Problem(
                        f"{copy['file']} in snapshot {snapshot[:8]} is not what its manifest says: its SHA-256 differs."
                        " Nothing was changed. Use another snapshot."
                    )
        return found

    def place(self, part: Part, copy: Mapping[str, t.Any]) -> Path:
        """Where a copy is kept on this server meanwhile."""
        name = Path(copy["file"]).name
        return self.folder / "files" / (name if part.kind == VAULT else f"{part.name}.{name}")

    # ------------------------------------------------------------ put

    def put(self) -> None:
        """Replace what the copies and the repository have. Raises Problem; it can be repeated."""
        with self.opened() as opened:
            note = self._read_note()
            for part in self._parts(note).values():
                if part.kind != VAULT:
                    self.say(f"restoring {part.name}")
                    self._record(note, part, lambda part=part: self.put_part(opened, note["snapshot"], part))

    def put_part(self, opened: Restic, snapshot: str, part: Part) -> dict[str, t.Any]:
        staged = {copy["file"]: self.place(part, copy) for copy in part.copies}
        if part.kind == DATABASE:
            databases = Databases(self.target.containers, part.name)
            postgres_restore.restore_roles(databases, staged[part.about["globals"]["file"]].read_text())
            return postgres_restore.joined(
                postgres_restore.restore(databases, name, about, staged[about["file"]])
                for name, about in part.about["databases"].items()
            )
        if part.kind == CACHE:
            self.target.stop(part.name)
            [folder] = self.target.data_of(part)
            restore_files.put_cache(folder, part.about, staged[part.about["file"]])
            return {"keys": part.about["keys"]}
        return restore_files.restore_volume(opened, self.config, snapshot, part, staged)

    def note_vault(self, seconds: float) -> None:
        """The role vault has restored it."""
        note = self._read_note()
        part = self._parts(note)[VAULT]
        self._done(note, part, {"index": part.about["index"]}, seconds)

    def _record(self, note: dict[str, t.Any], part: Part, work: Callable[[], dict[str, t.Any]]) -> None:
        begun = time.monotonic()
        found = work()
        self._done(note, part, found, time.monotonic() - begun)

    def _done(self, note: dict[str, t.Any], part: Part, found: dict[str, t.Any], seconds: float) -> None:
        note["done"][part.name] = {**self.shown(part), **found, "seconds": round(seconds, 1)}
        state.write(self.note, note)

    def _read_note(self) -> dict[str, t.Any]:
        note = state.read(self.note)
        if not note:
            raise Problem(f"No restore is under way: {self.note} is missing. Run restore.yml.")
        return note

    def _parts(self, note: Mapping[str, t.Any]) -> dict[str, Part]:
        return chosen(parts_of(note["manifest"], self.config), note["parts"])

    # ------------------------------------------------------------ the end

    def prove(self) -> dict[str, t.Any]:
        """Prove the result; from there on a repeated restore replaces nothing. Raises Problem."""
        with self.opened() as opened:
            note = self._read_note()
            parts, manifest = self._parts(note), note["manifest"]
            if lacking := [name for name in parts if name not in note["done"]]:
                raise Problem(f"These parts were not restored: {', '.join(lacking)}. Run restore.yml again.")
            if VAULT in parts:
                self._decrypt_canary(manifest["vault"]["canary"])
            for part in parts.values():
                if part.kind == CACHE:
                    note["done"][part.name]["keys_now"] = Cache(self.target.containers, part.name).keys()
            own = (manifest["host"], manifest["environment"]) == (self.config.host, self.config.environment)
            if own and set(parts) == set(parts_of(manifest, self.config)):
                restore_files.add_releases(opened, self.config, note["snapshot"], manifest)
            note["proven"] = True
            state.write(self.note, note)
            return {
                "snapshot": note["snapshot"],
                "begun": note["begun"],
                "ended": state.now(),
                "host": manifest["host"],
                "parts": [note["done"][name] for name in parts],
                "stack_differs": restore_files.stack_differences(self.config, manifest["trees"]["stack"]),
            }

    def end(self) -> None:
        """Remove the note, and the copies, which are secret. Raises Problem unless the result was proven."""
        with self.opened():
            if not self._read_note().get("proven"):
                raise Problem("The restore is not proven, so it has not ended. Run restore.yml again.")
            # move.yml goes on from here: what this server writes from now on must not be replaced by another restore.
            if move := state.read(self.config.move):
                state.write(self.config.move, {**move, "restored": self._read_note()["snapshot"]})
            shutil.rmtree(self.folder / "files", ignore_errors=True)
            self.note.unlink()
            self.folder.rmdir()

    def _decrypt_canary(self, canary: Mapping[str, str]) -> None:
        """With the token that the services have now: so they have one, and the keys are those of the snapshot."""
        try:
            token = (self.config.stack / LOGGED_IN).read_text().strip()
        except OSError as error:
            raise Problem(f"The services have no token for Vault: {error}. Run site.yml --tags vault.") from None
        connection = http.client.HTTPConnection(self.target.vault_address(), timeout=SECONDS)
        try:
            path, body = f"/v1/{canary['mount']}/decrypt/{canary['key']}", {"ciphertext": canary["ciphertext"]}
            connection.request("PUT", path, json.dumps(body), {"X-Vault-Token": token})
            answer = connection.getresponse()
            content = json.loads(answer.read() or b"{}")
            text = base64.b64decode(content["data"]["plaintext"]) if answer.status == 200 else b""
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise Problem(f"Vault does not answer as expected: {type(error).__name__}. See the log of vault.") from None
        finally:
            connection.close()
        if hashlib.sha256(text).hexdigest() != canary["sha256"]:
            raise Problem(
                f"Vault does not decrypt the snapshot's canary (status {answer.status}): what the services have"
                " encrypted cannot be read. See the log of vault, and run restore.yml again."
            )


def same(path: Path, copy: Mapping[str, t.Any]) -> bool:
    """Whether a file is there with the size and the digest of the manifest."""
    return path.is_file() and path.stat().st_size == copy["bytes"] and files.sha256(path) == copy["sha256"]
