#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace what an open Vault holds by a later snapshot of the same Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_refresh
short_description: Replace what an open Vault holds by another snapshot of the same Vault
description:
  - Makes a root token from the unseal shares, has Vault take the snapshot, and opens it again if it is sealed then.
    Vault itself refuses a snapshot that other keys open.
  - It takes seconds, where M(openmates.server.vault_restore) needs an empty Vault. playbooks/move.yml uses it while
    clients wait.
  - In the snapshot, tokens and logins that were revoked since are valid. So it leaves a file in O(state_directory),
    which makes M(openmates.server.vault_config) revoke all of them before anything else.
  - A module of our own because the root token must not leave the call.
options:
  src:
    description: The snapshot, on the host.
    type: path
    required: true
  shares:
    description: The unseal shares. The action plugin takes them from O(keys_file), if it has them in plaintext.
    type: list
    elements: str
author: [The openmates.server contributors]
extends_documentation_fragment:
  - openmates.server.vault
  - openmates.server.vault.custody
  - openmates.server.vault.root
  - openmates.server.vault.state
attributes:
  check_mode:
    description: Reports that it would be replaced.
    support: full
"""

EXAMPLES = r"""
- name: Replace what Vault holds by the last snapshot
  openmates.server.vault_refresh:
    url: http://172.18.0.5:8200
    src: /root/vault.snap
    keys_file: /home/operator/keys/prod1.yml
    state_directory: /var/lib/openmates
"""

RETURN = r"""
bytes:
  description: The size of the snapshot that Vault took.
  returned: success, but in check mode
  type: int
"""

import pathlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import markers as vault_markers
from ansible_collections.openmates.server.plugins.module_utils.vault import snapshots, tokens


def refresh(module: AnsibleModule) -> dict:
    """Replace what Vault holds, and return the result."""
    params = module.params
    if module.check_mode:
        return {"changed": True}
    try:
        content = pathlib.Path(params["src"]).read_bytes()
    except OSError as error:
        raise vault.VaultProblem(f"The snapshot {params['src']} cannot be read: {error.strerror}.") from error
    snapshots.check_snapshot(content)
    markers = vault_markers.markers_of(params, module.check_mode)
    client = vault.connect(params["url"], timeout=params["deadline"])
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    markers.root.write("root")
    with tokens.network_of(module, params["root_container"]):
        maker = vault.connect(params["root_url"] or params["url"], timeout=params["deadline"])
        root = tokens.generate_root(maker, params["shares"])
    module.no_log_values.add(root)
    markers.wipe.write(vault_markers.RESTORE)
    # The snapshot does not know the root token of this call: once Vault refuses it, it runs on the snapshot.
    snapshots.replace_storage(
        client, content, root, params["deadline"], lambda: replaced(client, params["shares"]), force=False
    )
    return {"changed": True, "bytes": len(content)}


def replaced(client: vault.hvac.Client, shares: list[str]) -> bool:
    try:
        state = vault.state_of(client)
        if state == vault.SEALED:
            vault.submit_shares(client, shares[: client.sys.read_seal_status()["t"]])
        elif state == vault.ACTIVE:
            client.auth.token.lookup_self()
    except vault.hvac.exceptions.Forbidden:
        return True
    except (vault.VaultUnreachable, vault.hvac.exceptions.VaultError, vault.requests.exceptions.RequestException):
        pass  # for a moment, while the storage is replaced
    return False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.ROOT,
            **vault_markers.STATE,
            "src": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    vault.run(module, "restored", refresh, {"changed": True})


if __name__ == "__main__":
    main()
