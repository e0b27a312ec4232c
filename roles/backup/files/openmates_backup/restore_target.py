# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server that is restored: what it holds already, what runs on it, and whether there is room."""

from __future__ import annotations

import http.client
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from openmates_backup import commands, files, postgres_restore, room
from openmates_backup.cache import Cache
from openmates_backup.config import Config
from openmates_backup.containers import Containers
from openmates_backup.parts import VAULT_PORT
from openmates_backup.postgres import Databases
from openmates_backup.restore_parts import CACHE, DATABASE, FILES, VAULT, Part

SNAPSHOTS = ("*.rdb", "*.dfs")  # of the cache
GROWTH = 2  # a database with its indexes, compared with its dump
SECONDS = 10


class Target:
    """This server, as it is before a restore."""

    def __init__(self, config: Config) -> None:
        self.config, self.containers = config, Containers(config.project)

    def running(self) -> dict[str, list[str]]:
        """The running services, each with the volumes that it has mounted. Raises Problem."""
        label = f"--filter=label=com.docker.compose.project={self.config.project}"
        command = ["docker", "ps", label, '--format={{.Label "com.docker.compose.service"}} {{.ID}}']
        found: dict[str, list[str]] = {}
        for line in commands.output(command, "Asking Docker for its containers").decode().splitlines():
            service, identity = line.split()
            mounts = "{{range .Mounts}}{{.Name}} {{end}}"
            shown = commands.output(
                ["docker", "inspect", f"--format={mounts}", identity], f"Asking Docker for {service}"
            )
            found.setdefault(service, []).extend(shown.decode().split())
        return found

    def holds(self, part: Part, running: Collection[str]) -> bool:
        """Whether there is something that a restore of this part would replace. Raises Problem."""
        if part.kind == FILES:
            return has_files(self.config.volume_path(part.name))
        service_runs = part.name in running
        if part.kind == DATABASE and service_runs:
            return bool(postgres_restore.contents(Databases(self.containers, part.name)))
        if part.kind == CACHE and service_runs:
            return Cache(self.containers, part.name).keys() > 0
        if part.kind == VAULT and (service_runs or self.config.vault_address):
            return self.vault_initialised()
        return any(has_files(path) for path in self.data_of(part))

    def data_of(self, part: Part) -> list[Path]:
        return [
            self.config.volume_path(name)
            for name, volume in self.config.volumes.items()
            if volume["service"] == part.name
        ]

    def vault_address(self) -> str:
        return self.config.vault_address or f"{self.containers.address(VAULT)}:{VAULT_PORT}"

    def vault_initialised(self) -> bool:
        """One that does not answer may hold something."""
        connection = http.client.HTTPConnection(self.vault_address(), timeout=SECONDS)
        try:
            connection.request("GET", "/v1/sys/init")
            return json.loads(connection.getresponse().read())["initialized"] is not False
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return True
        finally:
            connection.close()

    def stop(self, service: str) -> None:
        """Raises Problem."""
        labels = [f"com.docker.compose.project={self.config.project}", f"com.docker.compose.service={service}"]
        command = ["docker", "ps", "--quiet", *(f"--filter=label={label}" for label in labels)]
        for identity in commands.output(command, "Asking Docker for its containers").decode().split():
            commands.output(["docker", "stop", identity], f"Stopping {service}")

    def major(self, part: Part, running: Collection[str], declared: Mapping[str, int]) -> int | None:
        """The major version of Postgres that a database is restored into, if that can be told. Raises Problem."""
        if part.name in running:
            return postgres_restore.major(Databases(self.containers, part.name))
        return declared.get(part.name)

    def check_room(self, parts: Collection[Part]) -> None:
        """Raises Problem if what is restored would fill a disk."""
        needs: dict[Path, int] = {}
        staged, data = self.config.directory, self.config.docker_root
        for part in parts:
            copied = sum(copy["bytes"] for copy in part.copies)
            needs[staged] = needs.get(staged, 0) + copied
            needs[data] = needs.get(data, 0) + self.needed_beside(part, copied)
        room.check(needs, "the restore needs", "")

    def needed_beside(self, part: Part, copied: int) -> int:
        """The bytes that a part needs in Docker's directory, beside what it replaces."""
        if part.kind == DATABASE:
            return copied * GROWTH
        if part.kind == FILES:
            return max(0, part.bytes - files.size(self.config.volume_path(part.name)))
        return copied


def has_files(folder: Path) -> bool:
    try:
        return next(files.regular(folder), None) is not None
    except OSError:
        return False
