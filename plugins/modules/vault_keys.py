#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find whether the keys on the controller open a host's Vault; the part that runs on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_keys
short_description: Find whether the keys on the controller open a host's Vault
description:
  - Compares the unseal shares of a keys file with the record on the host of the shares that were proven. The shares
    stay on the controller, and Vault is asked only which one it is.
  - With O(prove), shares without such a record are sent to Vault, which makes a root token from them that is revoked at
    once. Nothing else is changed, nothing is revealed, and a generation of a root token by others is not disturbed.
  - A module of our own because no other compares keys without revealing them.
options:
  url: {description: Address of Vault's API as the host reaches it. Empty where there is no Vault.}
  prove:
    description: Whether to prove shares that have no record.
    type: bool
    default: false
  again:
    description: Whether to prove shares although they have a record.
    type: bool
    default: false
  by:
    description: What proves them, for the record.
    type: str
    default: site.yml
  shares:
    description: Unseal shares that are not in the keys file. The keys file is not read then.
    type: list
    elements: str
  vault_password_file:
    description: The file with the ansible-vault password of the keys file, if it is not that of the run.
    type: str
author: [The openmates.server contributors]
extends_documentation_fragment:
  - openmates.server.vault
  - openmates.server.vault.custody
  - openmates.server.vault.root
  - openmates.server.vault.state
attributes:
  check_mode:
    description: Compares, and reports a change where O(prove) would prove shares.
    support: full
"""

EXAMPLES = r"""
- name: Read whether the keys on this machine open this Vault
  openmates.server.vault_keys:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    state_directory: /var/lib/openmates
  register: vault_keys_state
"""

RETURN = r"""
ok:
  description: Whether the shares are proven to open this Vault.
  returned: success
  type: bool
state:
  description: C(ok), C(unproven) or C(problem).
  returned: success
  type: str
problem:
  description: What is wrong and what to do, empty unless O(ignore:state=problem).
  returned: success
  type: str
sentence:
  description: The state as one sentence.
  returned: success
  type: str
reason:
  description: What the sentence says after the state.
  returned: success
  type: str
due:
  description: Whether there are shares that could be proven and are not.
  returned: success
  type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import custody, keys_proof, markers, tokens
from ansible_collections.openmates.server.plugins.module_utils.vault.api import Api, VaultProblem, source_address


def looked_at(module: AnsibleModule) -> dict:
    """Return the record, and which Vault there is."""
    params = module.params
    elsewhere = params["gateway"] and params["url"] and source_address(params["url"]) != params["gateway"]
    if not params["url"] or elsewhere:
        found = keys_proof.Identity("unreachable", "", 0)
    else:
        found = keys_proof.identify(Api(params["url"]))
    record = keys_proof.read_record(Path(params["state_directory"]))
    return {"changed": False, "record": record, **found._asdict()}


def proven(module: AnsibleModule) -> dict:
    """Prove the shares, record the result, and return it with what was wrong."""
    params = module.params
    directory, shares = Path(params["state_directory"]), params["shares"]
    cluster = keys_proof.identify(Api(params["url"])).cluster
    refused, unknown = False, ""
    try:
        with tokens.network_of(module, params["root_container"]):
            api = Api(params["root_url"] or params["url"], params["deadline"])
            keys_proof.prove(api, shares, markers.markers_of(params, False).root, custody.with_pad)
    except keys_proof.NotOurs:
        refused = True
    except VaultProblem as problem:
        unknown = str(problem).rstrip(".")
    if not unknown:
        keys_proof.record(directory, cluster, shares, params["by"], proven=not refused)
    return {**looked_at(module), "changed": not unknown, "unknown": unknown}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.ROOT,
            **markers.STATE,
            "prove": {"type": "bool", "default": False},
            "again": {"type": "bool", "default": False},
            "by": {"type": "str", "default": "site.yml"},
            "vault_password_file": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        result = proven(module) if module.params["shares"] and not module.check_mode else looked_at(module)
    except OSError as problem:
        module.fail_json(msg=f"The record of the proven shares cannot be written: {problem}")
    # Unmasked, as digests are no secrets, and a state must not be masked by what a share may be a part of.
    module.exit_json(**result)


if __name__ == "__main__":
    main()
