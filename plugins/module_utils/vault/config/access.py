# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The managing identity."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import tokens
from ansible_collections.openmates.server.plugins.module_utils.vault.config.approles import AppRoles
from ansible_collections.openmates.server.plugins.module_utils.vault.config.settings import same_text
from ansible_collections.openmates.server.plugins.module_utils.vault.markers import Markers


class Access:
    """The managing identity: its login, and what a root token has to do for it."""

    def __init__(self, module: AnsibleModule, markers: Markers) -> None:
        self.module = module
        self.params = module.params
        self.markers = markers
        self.role = {"name": self.params["access_role"], "policies": [self.params["access_role"]], "period": None}

    def log_in(self) -> vault.hvac.Client | None:
        """Return a client of the identity, or None."""
        return tokens.log_in_as_manager(self.params)

    def fault(self, client: vault.hvac.Client | None) -> str | None:
        """Return why a root token is needed, or None."""
        if self.markers.wipe.present():
            return "Vault comes from a snapshot, whose tokens are valid again"
        if client is None:
            return "the managing identity cannot log in"
        try:
            policy = client.sys.read_acl_policy(self.role["name"])["data"]["policy"]
            if not same_text(policy, self.params["access_policy"]) or AppRoles(client).differs(self.role):
                return "the managing identity may do something else than declared"
        except vault.hvac.exceptions.Forbidden:
            return "the managing identity may do less than declared"
        return None

    def elevate(self) -> None:
        """Make the identity with a root token. The marker stays until every root token is known to be gone."""
        params = self.params
        self.markers.root.write("root")
        client = vault.connect(params["url"], self.root_token(), params["deadline"])
        roles = AppRoles(client)
        if self.markers.wipe.present():
            tokens.revoke(client, lambda token: True)
            if "approle/" in client.sys.list_auth_methods()["data"]:
                for name in [self.role["name"], *(role["name"] for role in params["roles"])]:
                    roles.forget(name)
        if "approle/" not in client.sys.list_auth_methods()["data"]:
            client.sys.enable_auth_method("approle")
        client.sys.create_or_update_acl_policy(self.role["name"], params["access_policy"])
        roles.write(self.role)
        roles.install(self.role["name"], params["access_secret"])
        self.markers.wipe.drop()

    def root_token(self) -> str:
        """Return a valid root token: the first one, while it lasts, or one made from the shares."""
        params = self.params
        if params["root_token"]:
            first = vault.connect(params["url"], params["root_token"], params["deadline"])
            try:
                first.auth.token.lookup_self()
                return params["root_token"]
            except vault.hvac.exceptions.Forbidden:
                pass  # it is revoked once Vault is configured
        if not params["shares"]:
            raise vault.VaultProblem(
                "A root token is needed, because the identity that manages Vault is missing or out of date, and the"
                " keys file has no unseal share in plaintext to generate one. Run again with the shares: see"
                " docs/vault.md, 'When the way in is lost'."
            )
        with tokens.network_of(self.module, params["root_container"]):
            maker = vault.connect(params["root_url"] or params["url"], timeout=params["deadline"])
            token = tokens.generate_root(maker, params["shares"])
        self.module.no_log_values.add(token)
        return token

    def revoke_roots(self, client: vault.hvac.Client) -> int:
        """Revoke every root token, whatever its origin, and return how many there were."""
        count = tokens.revoke(client, lambda token: "root" in (token.get("policies") or []))
        self.markers.root.drop()
        return count
