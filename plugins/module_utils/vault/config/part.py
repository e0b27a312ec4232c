# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of vault_config have in common."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault


class Part:
    """One part of what is in an open Vault: brought to the declared state, or only compared in check mode."""

    def __init__(self, module: AnsibleModule, client: vault.hvac.Client) -> None:
        """`client` has to hold a token that may manage all that the module's parameters declare."""
        self.module = module
        self.params = module.params
        self.client = client
        self.check = module.check_mode
        self.changes: list[str] = []
        self.due: list[str] = []  # what is the caller's to do

    def run(self) -> None:
        """Reconcile. Raises VaultProblem."""
        raise NotImplementedError
