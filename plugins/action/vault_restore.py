# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_restore: where Vault and its markers are."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, STATE, VaultAction


class ActionModule(VaultAction):
    """Needs no secret: it makes its own."""

    defaults = CONNECTION | STATE
