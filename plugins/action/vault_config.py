# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_config: where Vault is, and the secrets that it works with."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, KEYS, MANAGED, STATE
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import CustodyAction


class ActionModule(CustodyAction):
    """Takes all of the options that come from variables."""

    defaults = CONNECTION | KEYS | MANAGED | STATE
