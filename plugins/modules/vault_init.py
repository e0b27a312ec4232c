#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initialise Vault; the part that runs on the host. plugins/action/vault_init.py is the part on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_init
short_description: Initialise Vault and store its keys, encrypted, on the controller
description:
  - Initialises an uninitialised HashiCorp Vault or OpenBao and writes its unseal shares and root token to one file on
    the controller, encrypted with the run's own ansible-vault secret, before the task returns.
  - The keys go from Vault's answer through the SSH connection into that file, hidden by a one-time pad from whatever
    prints or logs the connection's traffic. They are in no result, log or file on the host.
  - An existing keys file is never overwritten. An initialised Vault without its keys file is an error.
  - A run that is killed between the initialisation and the custody leaves a marker on the host. The next run finds it
    and either confirms the custody or reports RV(must_reset), because then nothing was ever stored in that Vault.
  - A module of our own because no other keeps the unseal shares out of results, logs and files.
options:
  keys_file:
    description: Absolute path of the keys file on the controller. Its folder is made if it is missing.
  secret_shares:
    description: Number of unseal shares to make.
    type: int
    default: 5
  secret_threshold:
    description: Number of shares needed to unseal.
    type: int
    default: 3
  pgp_keys:
    description:
      - One public PGP key a share, base64 of its binary form. Vault then hands out each share encrypted for one of
        them, and no share is ever in plaintext. Without any, the shares are only ansible-vault encrypted.
    type: list
    elements: str
    default: []
  step:
    description: Set by the action plugin.
    type: str
    choices: [begin, confirm]
    default: begin
  init_id:
    description: Set by the action plugin.
    type: str
  pad:
    description: Set by the action plugin.
    type: str
  keys_init_id:
    description: Set by the action plugin.
    type: str
requirements:
  - an ansible-vault password for the run
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.custody, openmates.server.vault.state]
attributes:
  check_mode:
    description: Reports what would be done, also where there is no Vault yet.
    support: full
"""

EXAMPLES = r"""
- name: Initialise Vault
  openmates.server.vault_init:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    state_directory: /var/lib/openmates
"""

RETURN = r"""
initialized:
  description: Whether Vault is initialised now. Null in check mode if nothing answers.
  returned: success
  type: bool
sealed:
  description: Whether Vault is sealed now. Null in check mode if nothing answers.
  returned: success
  type: bool
must_reset:
  description:
    - Whether this Vault was initialised by a run whose keys are lost, before anything was stored in it. Its data has to
      be deleted and the initialisation repeated.
  returned: success
  type: bool
keys_file:
  description: Where the keys are, or would be, on the controller.
  returned: success
  type: str
"""

import base64
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import custody, markers


def initialise(module: AnsibleModule, client: vault.hvac.Client, marker: markers.Marker) -> dict:
    """Initialise Vault behind a marker and return the result with the keys, readable for the action plugin only."""
    params = module.params
    pad = base64.b64decode(params["pad"])
    if len(pad) < custody.pad_length(params["secret_shares"]):
        raise vault.VaultProblem("The pad is too short.")  # found out now, not when there are keys to lose
    interrupted_before = marker.present()
    marker.write(params["init_id"])
    try:
        answer = client.sys.initialize(
            secret_shares=params["secret_shares"],
            secret_threshold=params["secret_threshold"],
            pgp_keys=params["pgp_keys"] or None,
        )
    except (vault.hvac.exceptions.VaultError, vault.requests.exceptions.RequestException) as error:
        state = vault.state_of(client)
        if interrupted_before and state in (vault.UNINITIALIZED, vault.SEALED):
            # The earlier run was killed with the storage half made, or its module outlived it and initialised just now.
            # No retry gets past either, and the keys are lost.
            return {"changed": False, "initialized": state == vault.SEALED, "sealed": True, "must_reset": True}
        raise vault.VaultProblem(f"Vault could not be initialised: {error}") from error
    keys = {
        "unseal_threshold": params["secret_threshold"],
        "pgp_shares" if params["pgp_keys"] else "unseal_shares": answer["keys_base64"],
        "root_token": answer["root_token"],
    }
    hidden = base64.b64encode(custody.with_pad(json.dumps(keys).encode(), pad)).decode()
    return {"changed": True, "initialized": True, "sealed": True, "must_reset": False, "custody": hidden}


def begin(module: AnsibleModule) -> dict:
    """Do what custody.verdict decides from the state of Vault and the marker."""
    params = module.params
    marker = markers.markers_of(params, module.check_mode).init
    client = vault.connect(params["url"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], module.check_mode)
    if state == vault.UNREACHABLE:
        return nothing_there_yet(module)
    verdict = custody.verdict(
        state=state,
        marker=marker.read(),
        keys_file=params["keys_file"],
        keys_present=params["keys_present"],
        keys_init_id=params["keys_init_id"],
    )
    if verdict == "init" and not module.check_mode:
        return initialise(module, client, marker)
    if verdict == "confirm" and not module.check_mode:
        marker.drop()
    return {
        # A reset is the role's to do, so here it only counts as a change when it is foretold.
        "changed": verdict in ("init", "confirm") or (verdict == "reset" and module.check_mode),
        "initialized": verdict != "init",
        "sealed": state in (vault.SEALED, vault.UNINITIALIZED),
        "must_reset": verdict == "reset",
    }


def nothing_there_yet(module: AnsibleModule) -> dict:
    """Return the result of check mode for a host without a Vault."""
    return {"changed": not module.params["keys_present"], "initialized": None, "sealed": None, "must_reset": False}


def confirm(module: AnsibleModule) -> dict:
    """Remove the marker of this very initialisation, now that its keys are in custody."""
    marker = markers.markers_of(module.params, module.check_mode).init
    if marker.read() != module.params["init_id"]:
        raise vault.VaultProblem(
            f"The marker {marker.path} is not this run's. Was another run at work on this host? Run again."
        )
    marker.drop()
    return {"changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **markers.STATE,
            "secret_shares": {"type": "int", "default": 5, "no_log": False},
            "secret_threshold": {"type": "int", "default": 3, "no_log": False},
            "pgp_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "step": {"type": "str", "choices": ["begin", "confirm"], "default": "begin"},
            "init_id": {"type": "str"},
            "pad": {"type": "str", "no_log": True},
            "keys_init_id": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["init_id"] or not params["pad"]:
        module.fail_json(msg="vault_init works only through its action plugin, which keeps the keys out of the result.")
    least = 1 if params["secret_shares"] == 1 else 2
    if not least <= params["secret_threshold"] <= params["secret_shares"]:
        module.fail_json(
            msg=f"secret_threshold is {params['secret_threshold']}, but with {params['secret_shares']} shares it has to"
            f" be between {least} and {params['secret_shares']}."
        )
    if params["pgp_keys"] and len(params["pgp_keys"]) != params["secret_shares"]:
        module.fail_json(
            msg=f"There are {len(params['pgp_keys'])} pgp_keys for {params['secret_shares']} shares: it takes one each."
        )
    vault.run(module, "initialised", begin if params["step"] == "begin" else confirm, nothing_there_yet(module))


if __name__ == "__main__":
    main()
