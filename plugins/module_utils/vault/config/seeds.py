# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of the inventory."""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault.config.part import Part
from ansible_collections.openmates.server.plugins.module_utils.vault.seeds import (
    ENFORCE,
    ENSURE,
    GENERATE,
    Seed,
    seeds_of,
)


class Seeds(Part):
    """Writes what never held anything, and what the inventory enforces where Vault has something else.

    ``differing``: the fields of other seeds that have another value in Vault than in the inventory.
    """

    def __init__(self, module: AnsibleModule, client: vault.hvac.Client) -> None:
        super().__init__(module, client)
        self.differing: list[str] = []

    def run(self) -> None:
        for seed in seeds_of(self.params["seeds"]).values():
            self.seed(seed)

    def seed(self, seed: Seed) -> None:
        """Compare one seed and write it if it is due, as a new version that keeps all other fields."""
        version = self.version(seed.path)
        if version is not None and seed.kind != ENFORCE:
            if seed.kind == ENSURE:
                self.compare(seed)
            return
        held = self.read_secret(seed.path) if version else {}
        values = vault.generated(seed.fields) if seed.kind == GENERATE else seed.fields
        self.module.no_log_values.update(str(value) for value in (held | values).values() if len(str(value)) > 3)
        if version is not None and all(held.get(name) == value for name, value in values.items()):
            return
        done = "corrected" if version else "generated" if seed.kind == GENERATE else "written"
        self.changes.append(f"seed {self.params['seeds_engine']}/{seed.path}: {done}")
        if not self.check:
            self.write_secret(seed.path, held | values, version or 0)

    def compare(self, seed: Seed) -> None:
        """Note fields whose values Vault keeps, so that an operator who changed them in the inventory knows. A deleted
        secret has none."""
        held = self.read_secret(seed.path)
        names = sorted(name for name, value in seed.fields.items() if held and held.get(name) != value)
        if names:
            self.differing.append(f"{', '.join(names)} of {self.params['seeds_engine']}/{seed.path}")

    def version(self, path: str) -> int | None:
        """Return the path's latest version, None if it never held anything. Asks for metadata, so no value is read."""
        read = self.client.secrets.kv.v2.read_secret_metadata
        try:
            answer = self.patiently(read, path=path, mount_point=self.params["seeds_engine"])
        except vault.hvac.exceptions.InvalidPath:
            return None
        except vault.hvac.exceptions.Forbidden:
            if self.check:
                return None  # the engine is not there yet
            raise vault.VaultProblem(
                f"The seed {path} is outside of what may be seeded. "
                "Begin its path with providers/ or system/ (the role's vault_seed_folders)."
            ) from None
        return answer["data"]["current_version"]

    def read_secret(self, path: str) -> dict[str, t.Any]:
        """Return the latest values, none if that version was deleted."""
        read = self.client.secrets.kv.v2.read_secret_version
        try:
            answer = read(path=path, mount_point=self.params["seeds_engine"], raise_on_deleted_version=True)
        except vault.hvac.exceptions.InvalidPath:
            return {}
        return answer["data"]["data"] or {}

    def write_secret(self, path: str, values: dict[str, t.Any], version: int) -> None:
        """Write the version after `version`. Vault refuses it (check-and-set) if another one was written meanwhile."""
        write = self.client.secrets.kv.v2.create_or_update_secret
        self.patiently(write, path=path, secret=values, cas=version, mount_point=self.params["seeds_engine"])

    def patiently(self, call: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """Call, and retry while a new kv engine reports that it is still being set up."""
        end = time.monotonic() + self.params["deadline"]
        while True:
            try:
                return call(**arguments)
            except vault.hvac.exceptions.InvalidRequest as error:
                if "Upgrading from non-versioned" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(vault.POLL_SECONDS)
