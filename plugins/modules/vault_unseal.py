#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unseal Vault and wait until it serves requests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_unseal
short_description: Unseal Vault and wait until it serves requests
description:
  - Unseals a sealed HashiCorp Vault or OpenBao with Shamir shares and waits until its health answers 200.
  - Leaves an open Vault as it is.
  - A module of our own because community.hashi_vault has none, and because an unfinished attempt of another run has to
    be reset first.
options:
  shares:
    description: The unseal shares, base64 or hex; at least as many as the Vault's threshold.
    type: list
    elements: str
    required: true
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault]
attributes:
  check_mode:
    description: Reports whether Vault would be unsealed; uses no share.
    support: full
"""

EXAMPLES = r"""
- name: Unseal Vault
  openmates.server.vault_unseal:
    url: http://172.18.0.5:8200
    shares: "{{ keys.unseal_shares }}"
"""

RETURN = r"""
sealed:
  description: Whether Vault is sealed now. Null in check mode if nothing answers.
  returned: success
  type: bool
"""

import base64
import binascii
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault


def usable_shares(given: list[str], threshold: int) -> list[str]:
    """Return exactly `threshold` different shares of those given.

    Raises VaultProblem if there are too few or one is malformed, naming it by its position only.
    """
    for position, share in enumerate(given, start=1):
        if not re.fullmatch(r"([0-9a-fA-F]{2})+", share):
            try:
                base64.b64decode(share, validate=True)
            except (binascii.Error, ValueError):
                raise vault.VaultProblem(
                    f"Unseal share {position} of {len(given)} is neither base64 nor hex."
                ) from None
    if not given:
        raise vault.VaultProblem(
            f"Vault is sealed and needs {threshold} different unseal shares, of which this run has none: those who hold"
            " them have to run unseal.yml. Then run this again."
        )
    different = list(dict.fromkeys(given))
    if len(different) < threshold:
        raise vault.VaultProblem(
            f"Vault needs {threshold} different unseal shares, but only {len(different)} were handed over."
        )
    return different[:threshold]


def unseal(module: AnsibleModule) -> dict:
    """Unseal Vault, wait until it is active, and return the result."""
    params = module.params
    client = vault.connect(params["url"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], module.check_mode)
    if module.check_mode:
        return {"changed": state not in (vault.ACTIVE, vault.STANDBY), "sealed": state == vault.SEALED}
    if state == vault.UNINITIALIZED:
        raise vault.VaultProblem("Vault is not initialised, so there is nothing to unseal: run vault_init first.")
    if state == vault.SEALED:
        vault.submit_shares(client, usable_shares(params["shares"], client.sys.read_seal_status()["t"]))
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    return {"changed": state == vault.SEALED, "sealed": False}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            "shares": {"type": "list", "elements": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    vault.run(module, "unsealed", unseal, {"changed": True, "sealed": None})


if __name__ == "__main__":
    main()
