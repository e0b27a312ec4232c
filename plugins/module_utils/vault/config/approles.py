# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""AppRoles and their secrets."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault

ROLES = "/v1/auth/approle/role"


def role_settings(wanted: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an AppRole as Vault shows it. A login never ends; its tokens do, unless they are renewed."""
    lasting = {"token_period": vault.seconds(wanted["period"] or 0), "token_ttl": 0, "token_max_ttl": 0}
    brief = {"token_period": 0, "token_ttl": 600, "token_max_ttl": 600}
    return {
        "token_policies": sorted(wanted["policies"]),
        "token_no_default_policy": True,
        "token_num_uses": 0,
        "bind_secret_id": True,
        "secret_id_ttl": 0,
        **(lasting if wanted["period"] else brief),
    }


class AppRoles:
    """Reconciles AppRoles and their secrets, with a root token or as the managing identity."""

    def __init__(self, client: vault.hvac.Client) -> None:
        self.client = client

    def differs(self, wanted: dict[str, t.Any]) -> bool:
        """Return whether the role is missing or not as wanted."""
        path = f"{ROLES}/{wanted['name']}"
        try:
            found = self.client.adapter.get(path)["data"]
            role_id = self.client.adapter.get(f"{path}/role-id")["data"]["role_id"]
        except vault.hvac.exceptions.InvalidPath:
            return True
        found["token_policies"] = sorted(found.get("token_policies") or [])
        return role_id != wanted["name"] or any(found.get(key) != value for key, value in role_settings(wanted).items())

    def write(self, wanted: dict[str, t.Any]) -> None:
        path = f"{ROLES}/{wanted['name']}"
        self.client.adapter.post(path, json=role_settings(wanted))
        self.client.adapter.post(f"{path}/role-id", json={"role_id": wanted["name"]})

    def knows(self, role: str, secret_id: str) -> bool:
        """Return whether the secret is valid for a login to the role, without a login."""
        answer = self.client.adapter.post(f"{ROLES}/{role}/secret-id/lookup", json={"secret_id": secret_id})
        return isinstance(answer, dict) and bool(answer.get("data"))  # an unknown one gives 204

    def install(self, role: str, secret_id: str) -> None:
        """Make that secret the only one of the role."""
        self.forget(role)
        self.client.adapter.post(f"{ROLES}/{role}/custom-secret-id", json={"secret_id": secret_id})

    def forget(self, role: str) -> None:
        """Make every login of the role impossible."""
        try:
            accessors = self.client.adapter.list(f"{ROLES}/{role}/secret-id")["data"]["keys"]
        except vault.hvac.exceptions.InvalidPath:
            return
        for accessor in accessors:
            body = {"secret_id_accessor": accessor}
            self.client.adapter.post(f"{ROLES}/{role}/secret-id-accessor/destroy", json=body)
