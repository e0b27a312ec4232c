# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a backup, in an order in which no row is without its key: databases, Vault, the cache, then files."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

from openmates_backup import commands, files, room, state
from openmates_backup.cache import Cache
from openmates_backup.config import Config
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases
from openmates_backup.problem import NotReady, Problem
from openmates_backup.vault import Vault

FORMAT = 1
MANIFEST = "manifest.json"
VAULT, VAULT_PORT, VAULT_LOGIN = "vault", 8200, "openmates-vault-backup"
FILES, SNAPSHOT = "files", "snapshot"
SQLITE_BESIDE = ("", "-wal", "-shm", "-journal")


class Parts:
    """Collects everything that is not a plain file in the staging directory, and describes all of it."""

    def __init__(self, config: Config, vault_login: dict[str, str], say: Callable[[str], None]) -> None:
        self.config, self.vault_login, self.say = config, vault_login, say
        self.containers = Containers(config.project)
        self.databases = {service: Databases(self.containers, service) for service in config.databases}

    def volumes(self, rule: str) -> dict[str, dict[str, t.Any]]:
        return {name: volume for name, volume in self.config.volumes.items() if volume["rule"] == rule}

    def wait_until_ready(self) -> None:
        """The timer makes up for a night in which the server was off as soon as it boots. Raises Problem."""
        end, said = time.monotonic() + self.config.ready_wait, ""
        while True:
            try:
                return self._require_ready()
            except NotReady as reason:
                if time.monotonic() >= end:
                    raise
                if said != str(reason):
                    said = str(reason)
                    self.say(f"waiting for up to {self.config.ready_wait:.0f} s: {said}")
            time.sleep(self.config.look_every)

    def _require_ready(self) -> None:
        """Raises Problem, and NotReady where waiting may help."""
        snapshots = {volume["service"] for volume in self.volumes(SNAPSHOT).values()}
        Containers(self.config.project).require_started(sorted({*self.databases, *snapshots} - {VAULT}))
        if VAULT in snapshots:
            self._vault().close()

    def check_space(self) -> None:
        """Raises Problem if the copies would fill a disk. The caches write their snapshots on Docker's."""
        snapshots = sum(files.size(self.config.volume_path(name)) for name in self.volumes(SNAPSHOT))
        needed = sum(databases.sizes() for databases in self.databases.values()) + snapshots
        needed += sum(path.stat().st_size for path in self._sqlite_files() if path.exists())
        needs = {self.config.directory: needed, self.config.docker_root: snapshots}
        room.check(needs, "a backup needs", " while it runs. Nothing was written")

    def collect(self) -> dict[str, t.Any]:
        """Fill the staging directory and write the manifest, last of all. Raises Problem and OSError."""
        config, started = self.config, state.now()
        found: dict[str, t.Any] = {"databases": {}, "caches": {}, "volumes": {}, "trees": {}}
        for service, databases in self.databases.items():
            self.say(f"the databases of {service}")
            folder = config.staging / "postgres" / service
            found["databases"][service] = databases.back_up(config.databases[service], folder)
        for name, volume in sorted(self.volumes(SNAPSHOT).items(), key=lambda item: item[1]["service"] != VAULT):
            self.say(f"the snapshot of {volume['service']}")
            self._snapshot(name, volume["service"], found)
        for name, volume in config.volumes.items():
            found["volumes"][name] = {
                "name": f"{config.project}-{name}",
                **{key: volume[key] for key in ("service", "rule")},
                **(self._files(name) if volume["rule"] == FILES else {}),
            }
        self.say("the configuration and the state")
        for name, folder in {"stack": config.stack, "state": config.state}.items():
            found["trees"][name] = {"time": state.now(), **files.summary(folder, self.excluded)}
        manifest = {
            "format": FORMAT,
            "started": started,
            "finished": state.now(),
            "host": config.host,
            "environment": config.environment,
            "directories": {name: str(getattr(config, name)) for name in ("stack", "state", "staging", "docker_root")},
            "release": self._release(),
            "images": self._images(),
            **found,
        }
        state.write(config.staging / MANIFEST, manifest)
        return manifest

    def _snapshot(self, volume: str, service: str, found: dict[str, t.Any]) -> None:
        """Vault and the cache write snapshots, each in its own way. Raises Problem."""
        if service == VAULT:
            vault = self._vault()
            try:
                described = vault.back_up(self.config.staging / "vault" / "vault.snap")
            finally:
                vault.close()
            volume_name = f"{self.config.project}-{volume}"
            found["vault"] = {"engine": self.config.vault_engine, "volume": volume_name, **described}
        else:
            path = self.config.staging / "cache" / service / "dump.rdb"
            described = Cache(self.containers, service).back_up(self.config.volume_path(volume), path)
            found["caches"][service] = {"volume": f"{self.config.project}-{volume}", **described}

    def _vault(self) -> Vault:
        """Raises Problem, and NotReady if it is sealed or does not run."""
        address = self.config.vault_address or f"{Containers(self.config.project).address(VAULT)}:{VAULT_PORT}"
        return Vault(address, self.vault_login)

    def _files(self, name: str) -> dict[str, t.Any]:
        """Describe a volume that restic reads as it is, and copy what would not be consistent then. Raises Problem."""
        self.say(f"the files of {name}")
        folder, copies = self.config.volume_path(name), {}
        for file in self.config.volumes[name].get("sqlite", []):
            if (folder / file).exists():
                target = self.config.staging / "sqlite" / name / file
                target.parent.mkdir(parents=True, exist_ok=True)
                files.copy_sqlite(folder / file, target)
                copies[file] = files.described(target)
        try:
            described = files.summary(folder, self.excluded)
        except FileNotFoundError:
            raise Problem(
                f"There is no volume {self.config.project}-{name}, whose files hold state: {folder} is missing."
                " `site.yml --tags stack` makes it; restore a backup if it was lost."
            ) from None
        return {"time": state.now(), **described, "sqlite": copies}

    def _sqlite_files(self) -> list[Path]:
        return [
            self.config.volume_path(name) / file
            for name, volume in self.volumes(FILES).items()
            for file in volume.get("sqlite", [])
        ]

    @property
    def excluded(self) -> set[Path]:
        """What is inside the paths and not stored: what is copied otherwise, and what is of no use elsewhere."""
        config = self.config
        live = {path.with_name(path.name + end) for path in self._sqlite_files() for end in SQLITE_BESIDE}
        names = ("cache", "lock", "last.json", "proof", "proof.json", "proof.running", "restore")
        own = {config.directory / name for name in names}
        return {*live, *own, config.metrics, config.change_lock, config.move}

    @property
    def paths(self) -> list[Path]:
        """What restic stores, besides the staging directory, which is among the state."""
        return [self.config.stack, self.config.state, *(self.config.volume_path(name) for name in self.volumes(FILES))]

    def _release(self) -> dict[str, t.Any]:
        """The record of what was rolled out last, as openmates-release has it."""
        for file in sorted((self.config.state / "releases").glob("*/release.json"), reverse=True)[:1]:
            try:
                return {"id": file.parent.name, **json.loads(file.read_text())}
            except (OSError, ValueError):
                break
        return {}

    def _images(self) -> dict[str, str]:
        """The images of the running services. Raises Problem."""
        shown = '{{.Label "com.docker.compose.service"}} {{.Image}}'
        label = f"--filter=label=com.docker.compose.project={self.config.project}"
        lines = commands.output(
            ["docker", "ps", f"--format={shown}", label], "Asking Docker for its containers"
        ).decode()
        return dict(sorted(line.split(" ", 1) for line in lines.splitlines()))
