# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_secret: where Vault is, and the secrets that it works with."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, KEYS, MANAGED
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import CustodyAction


class ActionModule(CustodyAction):
    """Works as the managing identity."""

    defaults = CONNECTION | KEYS | MANAGED
