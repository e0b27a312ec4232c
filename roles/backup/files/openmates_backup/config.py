# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that the role backup writes. It holds no secret."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from openmates_backup.problem import Problem

CONFIG = Path("/etc/openmates/backup.json")


@dataclasses.dataclass(frozen=True)
class Config:
    """All paths are absolute."""

    repository: str
    host: str
    environment: str
    keep: dict[str, int]  # daily, weekly, monthly
    volumes: dict[str, dict[str, t.Any]]  # by name in the catalogue: service, rule, and sqlite for some
    databases: dict[str, list[str]]  # the names that must be there, by service
    known_hosts: str = ""  # lines of SSH host keys
    project: str = "openmates"
    stack: Path = Path("/opt/openmates")
    docker_root: Path = Path("/var/lib/docker")
    state: Path = Path("/var/lib/openmates")
    metrics: Path = Path("/var/lib/openmates/metrics")
    rollout_lock: Path = Path("/run/openmates/rollout.lock")
    vault_engine: str = "vault"  # or openbao
    vault_unseal: str = "host"  # or operator: then the server cannot open Vault
    vault_address: str = ""  # host:port; empty: that of the container
    run_wait: float = 7200  # seconds to wait for a run of site.yml or deploy.yml
    ready_wait: float = 600  # seconds to wait for services that are still starting, and for a Vault that is sealed
    lock_wait: float = 900  # seconds to wait for another program that has locked the repository
    give_way: float = 120  # seconds in which a proof ends when a run changes the server; it takes a few
    look_every: float = 5

    @classmethod
    def load(cls, path: Path = CONFIG) -> Config:
        """Raises Problem."""
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise Problem(
                f"{path} cannot be read: {error}. With openmates_backup_repository set, `site.yml --tags"
                " backup` writes it."
            ) from None
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        return cls(**{name: Path(value) if kinds[name] == "Path" else value for name, value in found.items()})

    @property
    def directory(self) -> Path:
        """What the backup itself keeps on the host."""
        return self.state / "backup"

    @property
    def staging(self) -> Path:
        return self.directory / "staging"

    @property
    def restoring(self) -> Path:
        """What a restore keeps as long as it has not ended. No backup is made while its note is there."""
        return self.directory / "restore"

    @property
    def restore_note(self) -> Path:
        return self.restoring / "under-way.json"

    @property
    def change_lock(self) -> Path:
        return self.state / "change.lock"

    @property
    def move(self) -> Path:
        """What playbooks/move.yml has recorded of this server."""
        return self.state / "move.json"

    @property
    def tags(self) -> str:
        """The tags of this environment's snapshots, as restic takes them for all of them."""
        return f"openmates,env={self.environment}"

    def volume_path(self, volume: str) -> Path:
        return self.docker_root / "volumes" / f"{self.project}-{volume}" / "_data"
