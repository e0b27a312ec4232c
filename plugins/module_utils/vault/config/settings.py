# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines, audit devices and policies."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault.config.part import Part


def engine_fault(wanted: dict[str, t.Any], mounted: dict[str, t.Any] | None) -> str | None:
    """Return None if the engine is as wanted, "missing", or raise VaultProblem if another one is in its place."""
    if mounted is None:
        return "missing"
    version = (mounted.get("options") or {}).get("version")
    found = f"{mounted['type']} version {version}" if version else mounted["type"]
    if mounted["type"] != wanted["type"] or (wanted["version"] and str(wanted["version"]) != version):
        raise vault.VaultProblem(
            f"The path {wanted['path']} in Vault already holds another engine ({found}). It is not replaced, because"
            " its secrets would go with it: move it away with `secrets move`, or give the path up here."
        )
    return None


def same_text(one: str | None, other: str) -> bool:
    """Return whether two policies have the same text."""
    return one is not None and one.strip() == other.strip()


class Settings(Part):
    """Creates what is missing and corrects policies; removes nothing."""

    def run(self) -> None:
        self.engines()
        self.audit()
        self.policies()

    def engines(self) -> None:
        """Mount the engines that are missing."""
        mounted = self.client.sys.list_mounted_secrets_engines()["data"] if self.params["engines"] else {}
        for wanted in self.params["engines"]:
            if not engine_fault(wanted, mounted.get(wanted["path"].strip("/") + "/")):
                continue
            self.changes.append(f"engine {wanted['path']}: enabled")
            if not self.check:
                options = {"version": str(wanted["version"])} if wanted["version"] else None
                self.client.sys.enable_secrets_engine(wanted["type"], path=wanted["path"], options=options)

    def audit(self) -> None:
        """Enable the audit devices that are missing."""
        enabled = self.client.sys.list_enabled_audit_devices()["data"] if self.params["audit"] else {}
        for wanted in self.params["audit"]:
            if wanted["path"].strip("/") + "/" in enabled:
                continue
            self.changes.append(f"audit {wanted['path']}: enabled")
            if not self.check:
                self.client.sys.enable_audit_device(wanted["type"], path=wanted["path"], options=wanted["options"])

    def policies(self) -> None:
        """Write the policies whose text differs."""
        for name, text in self.params["policies"].items():
            try:
                found = self.client.sys.read_acl_policy(name)["data"]["policy"]
            except vault.hvac.exceptions.InvalidPath:
                found = None
            if same_text(found, str(text)):
                continue
            self.changes.append(f"policy {name}: {'created' if found is None else 'updated'}")
            if not self.check:
                self.client.sys.create_or_update_acl_policy(name, str(text))
