# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of secrets that Vault begins with."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.openmates.server.plugins.module_utils import vault
from ansible_collections.openmates.server.plugins.module_utils.vault_config.part import Part


class Seeds(Part):
    """Due are those that never held anything and are written elsewhere."""

    def run(self) -> None:
        """Bring each seed about as its kind asks for, or leave it to the caller."""
        params, engine = self.params, self.params["seeds_engine"]
        for path in params["seeds_ensure"]:
            if self.version(path) is None:
                self.changes.append(f"seed {engine}/{path}: written")
                self.due.append(path)
        for path, lengths in params["seeds_generate"].items():
            if self.version(path) is None:
                self.changes.append(f"seed {engine}/{path}: generated")
                if not self.check:
                    made = vault.generated(lengths)
                    self.module.no_log_values.update(made.values())
                    self.write_secret(path, made, 0)
        for path, values in params["seeds_enforce"].items():
            self.enforce(path, values)

    def enforce(self, path: str, values: dict[str, t.Any]) -> None:
        """Write the given fields where Vault has others, as a new version that keeps all other fields."""
        version = self.version(path)
        found = self.read_secret(path) if version else {}
        self.module.no_log_values.update(str(value) for value in found.values() if len(str(value)) > 3)
        if all(found.get(name) == value for name, value in values.items()):
            return
        self.changes.append(f"seed {self.params['seeds_engine']}/{path}: {'put right' if version else 'written'}")
        if not self.check:
            self.write_secret(path, {**found, **values}, version or 0)

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
                f"The seed {path} is outside of what may be seeded. Add its first part to vault_seed_folders."
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
        """Write a version, which Vault refuses (check-and-set) if it would not follow that one: somebody was faster."""
        write = self.client.secrets.kv.v2.create_or_update_secret
        self.patiently(write, path=path, secret=values, cas=version, mount_point=self.params["seeds_engine"])

    def patiently(self, call: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """Call, and again while a kv engine says that it is still being set up, as a new one may for a moment."""
        end = time.monotonic() + self.params["deadline"]
        while True:
            try:
                return call(**arguments)
            except vault.hvac.exceptions.InvalidRequest as error:
                if "Upgrading from non-versioned" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(vault.POLL_SECONDS)
