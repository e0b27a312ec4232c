# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins of the host's units: the AppRole, the credential that opens it, the token that a unit makes with it."""

from __future__ import annotations

import os
import pathlib
import secrets
import stat
import typing as t

from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import credential as vault_credential
from ansible_collections.openmates.server.plugins.module_utils.vault.api import token_fault
from ansible_collections.openmates.server.plugins.module_utils.vault.config.approles import AppRoles
from ansible_collections.openmates.server.plugins.module_utils.vault.config.part import Part

TOKEN_MODE = 0o400


class Logins(Part):
    """Reconciles logins. `due` are the files without the declared token."""

    def run(self) -> None:
        for wanted in self.params["roles"]:
            self.role(wanted)

    def role(self, wanted: dict[str, t.Any]) -> None:
        """Reconcile the AppRole and its credential on the host, and check the token that a unit there gets with it."""
        roles = AppRoles(self.client)
        missing = roles.differs(wanted)
        if missing:
            self.changes.append(f"login {wanted['name']}: written")
            if not self.check:
                roles.write(wanted)
        if wanted["credential"]:
            self.credential(roles, wanted, missing and self.check)
        if wanted["file"]:
            self.token(wanted)

    def credential(self, roles: AppRoles, wanted: dict[str, t.Any], role_missing: bool) -> None:
        """Reconcile the credential on the host that logs in to the role. Its secret is generated here."""
        credential = vault_credential.Credential(self.module, wanted["credential"])
        held = (credential.read() or {}).get("secret_id")
        if held:
            self.module.no_log_values.add(held)
        if held and not role_missing and roles.knows(wanted["name"], held):
            return
        self.changes.append(f"credential {credential.path.name}: {'replaced' if held else 'made'}")
        if not self.check:
            secret_id = secrets.token_urlsafe(32)
            self.module.no_log_values.add(secret_id)
            credential.write({"role_id": wanted["name"], "secret_id": secret_id})
            roles.install(wanted["name"], secret_id)

    def token(self, wanted: dict[str, t.Any]) -> None:
        """Check whether the file holds the declared token; correct its owner and mode."""
        path = pathlib.Path(wanted["file"])
        value, status = self.read_token(path)
        declared = (wanted["name"], wanted["policies"], vault.seconds(wanted["period"]))
        fault = token_fault(self.describe(value), *declared) if value else "is missing"
        if fault:
            self.changes.append(f"token in {path}: to be issued, because it {fault}")
            self.due.append(str(path))
            return
        owner = (wanted["uid"], wanted["gid"])
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (*owner, TOKEN_MODE):
            self.changes.append(f"token in {path}: owner and mode corrected")
            if not self.check:  # in place: a new file would look like a new token
                os.chown(path, *owner, follow_symlinks=False)
                path.chmod(TOKEN_MODE)

    def read_token(self, path: pathlib.Path) -> tuple[str | None, os.stat_result | None]:
        """Return what the token file holds and its status; None, None if there is no such regular file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None, None
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            value = file.read().strip()
            if not value:
                return None, None
            self.module.no_log_values.add(value)
            return value, os.fstat(file.fileno())

    def describe(self, token: str) -> dict[str, t.Any] | None:
        """Return Vault's description of a token, or None if the token is not valid.

        Looked up with our own token: a token's own lookup needs a policy, and a mistake there must not look like an
        invalid token.
        """
        try:
            return self.client.auth.token.lookup(token)["data"]
        except vault.hvac.exceptions.VaultError as error:
            if isinstance(error, (vault.hvac.exceptions.Forbidden, vault.hvac.exceptions.InvalidPath)):
                return None
            raise
