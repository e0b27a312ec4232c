#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a root token from the unseal shares; the part that runs on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_root
short_description: Make a root token from the unseal shares, for an operator who needs one
description:
  - The token goes to one file on the controller, encrypted with the run's own ansible-vault secret. It is in no result,
    log or file on the host.
  - It leaves a file in O(state_directory), so that the next run of M(openmates.server.vault_config) revokes it.
  - A module of our own because no other generates a root token from shares and keeps it out of results, logs and
    files.
options:
  url: {description: Where Vault makes a root token from the shares.}
  container:
    description: The container in whose network O(url) is. Empty for the host's own.
    type: str
    default: ""
  root_file:
    description: Absolute path on the controller of the file for the token. An older one is replaced.
    type: str
    required: true
  shares:
    description: Unseal shares, if the keys file has none in plaintext.
    type: list
    elements: str
  pad:
    description: Set by the action plugin.
    type: str
requirements:
  - an ansible-vault password for the run
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.custody, openmates.server.vault.state]
attributes:
  check_mode:
    description: Reports that it would generate one.
    support: full
"""

EXAMPLES = r"""
- name: Make a root token
  openmates.server.vault_root:
    url: http://127.0.0.1:8202
    container: openmates-vault-1
    keys_file: /home/operator/keys/prod1.yml
    root_file: /home/operator/keys/prod1.root.yml
    state_directory: /var/lib/openmates
"""

RETURN = r"""
root_file:
  description: Where the token is on the controller.
  returned: success
  type: str
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import custody, markers, tokens


def make(module: AnsibleModule) -> dict:
    """Make the token and return it, readable for the action plugin only."""
    params = module.params
    if module.check_mode:
        return {"changed": True}
    pad = base64.b64decode(params["pad"])
    with tokens.network_of(module, params["container"]):
        client = vault.connect(params["url"], timeout=params["deadline"])
        vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
        markers.markers_of(params, module.check_mode).root.write("root")
        token = tokens.generate_root(client, params["shares"])
    return {"changed": True, "custody": base64.b64encode(custody.with_pad(token.encode(), pad)).decode()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            "container": {"type": "str", "default": ""},
            "root_file": {"type": "str", "required": True},
            **markers.STATE,
            "shares": {"type": "list", "elements": "str", "no_log": True},
            "pad": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if not module.params["pad"]:
        module.fail_json(
            msg="vault_root works only through its action plugin, which keeps the token out of the result."
        )
    vault.run(module, "entered", make, {"changed": True})


if __name__ == "__main__":
    main()
