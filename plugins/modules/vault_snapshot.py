#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a snapshot of all that is in Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_snapshot
short_description: Take a snapshot of Vault's raft storage, with a token that can do nothing else
description:
  - Writes the snapshot to a file on the host and checks that it is whole.
  - A snapshot is encrypted with Vault's own key. It cannot be read without the unseal shares of that time.
  - A module of our own because the login that may take snapshots is made for one use within this call.
options:
  role:
    description: The AppRole that may take snapshots.
    type: str
    default: openmates-snapshot
  dest:
    description: Where to write the snapshot on the host.
    type: path
    required: true
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.custody, openmates.server.vault.managed]
attributes:
  check_mode:
    description: Reports that it would take one.
    support: full
"""

EXAMPLES = r"""
- name: Take a snapshot
  openmates.server.vault_snapshot:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    access_file: /home/operator/keys/prod1.access.yml
    dest: /root/vault.snap
"""

RETURN = r"""
size:
  description: The snapshot's size in bytes.
  returned: success
  type: int
"""

import pathlib
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import atomic
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import snapshots, tokens


def snapshot(module: AnsibleModule) -> dict:
    """Take the snapshot and return the result."""
    params = module.params
    if module.check_mode:
        return {"changed": True, "size": 0}
    vault.wait_for(vault.connect(params["url"], timeout=params["deadline"]), (vault.ACTIVE,), params["deadline"])
    manager = tokens.managing_client(params)
    try:
        # Good for one login within a minute: nothing that could take snapshots is left anywhere.
        once = {"secret_id": secrets.token_urlsafe(32), "num_uses": 1, "ttl": "60s"}
        manager.adapter.post(f"/v1/auth/approle/role/{params['role']}/custom-secret-id", json=once)
    finally:
        manager.auth.token.revoke_self()
    client = tokens.log_in(params["url"], params["role"], once["secret_id"], params["deadline"])
    if client is None:
        raise vault.VaultProblem(f"Vault does not let {params['role']} in. Run site.yml, which sets it up.")
    try:
        content = client.sys.take_raft_snapshot().content
    finally:
        client.auth.token.revoke_self()
    snapshots.check_snapshot(content)
    try:
        atomic.write_atomically(pathlib.Path(params["dest"]), content, 0o600)
    except OSError as error:
        raise vault.VaultProblem(f"{params['dest']} cannot be written: {error.strerror}.") from error
    return {"changed": True, "size": len(content)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.MANAGED,
            "role": {"type": "str", "default": "openmates-snapshot"},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    vault.run(module, "saved", snapshot, {"changed": True, "size": 0})


if __name__ == "__main__":
    main()
