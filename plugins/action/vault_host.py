# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_host: pass the unseal shares, but only to a host that has none for this Vault."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import KEYS
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import CustodyAction, KeysFile


class ActionModule(CustodyAction):
    """Runs the module without the shares first, and again with them only if the host needs them."""

    defaults = KEYS

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        keys = KeysFile(str(args["keys_file"]), self._loader._vault.secrets or [])
        self.held = keys.read() if keys.present() else {}
        return {**args, "keys_present": keys.present(), "init_id": self.held.get("init_id")}

    def ask_host(self, args: dict, task_vars: dict | None) -> dict:
        answer = super().ask_host(args, task_vars)
        if not answer.get("shares_due"):
            return answer
        shares = self.held.get("unseal_shares") or []
        if not shares:
            return {
                "failed": True,
                "msg": "The server is to unseal Vault (openmates_vault_unseal: host), but"
                f" {args['keys_file']} has no share in plaintext. Set openmates_vault_unseal: operator.",
            }
        return super().ask_host({**args, "shares": shares[: self.held.get("unseal_threshold")]}, task_vars)
