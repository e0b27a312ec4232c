# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_import: where Vault and its markers are, and the shares."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, KEYS, STATE
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import CustodyAction


class ActionModule(CustodyAction):
    """The root token is made of the shares: the one in the keys file was revoked long ago."""

    defaults = CONNECTION | KEYS | STATE

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        found = super().arguments({**args, "elevate": True}, task_vars)
        return {name: value for name, value in found.items() if name not in ("elevate", "root_token")}
