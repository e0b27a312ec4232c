# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_unseal: where Vault is."""

from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import VaultAction as ActionModule

__all__ = ["ActionModule"]
