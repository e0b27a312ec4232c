#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a snapshot into an empty Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_restore
short_description: Restore a snapshot into an empty Vault
description:
  - Takes an uninitialised Vault, initialises it with keys that live only as long as this call, and replaces its storage
    by the snapshot. Afterwards Vault is sealed, and the shares of the Vault that the snapshot comes from open it.
  - In the snapshot, tokens and logins that were revoked since are valid. So it leaves a file in O(state_directory),
    which makes M(openmates.server.vault_config) revoke all of them before anything else.
  - Never deletes anything itself.
  - A module of our own because the keys of the passing Vault must not leave the call, and an interrupted restore must
    be recognised.
options:
  src:
    description: The snapshot, on the host.
    type: path
    required: true
  secret_shares:
    description: Number of shares of the Vault that the snapshot comes from.
    type: int
    default: 5
  secret_threshold:
    description: Number of them that it takes.
    type: int
    default: 3
  replace:
    description: Whether a Vault that holds something may be replaced, which RV(must_reset) then requests.
    type: bool
    default: false
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.state]
attributes:
  check_mode:
    description: Reports whether it could be done.
    support: full
"""

EXAMPLES = r"""
- name: Restore the snapshot
  openmates.server.vault_restore:
    url: http://172.18.0.5:8200
    src: /root/vault.snap
    state_directory: /var/lib/openmates
"""

RETURN = r"""
must_reset:
  description:
    - Whether the present data must be deleted and the call repeated, because an earlier restore was interrupted and
      left a Vault that cannot be unsealed, or because of O(replace). The snapshot is known to be complete by then.
  returned: success
  type: bool
"""

import pathlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import markers as vault_markers
from ansible_collections.openmates.server.plugins.module_utils.vault import snapshots


def restore(module: AnsibleModule) -> dict:
    """Restore the snapshot and return the result."""
    params = module.params
    markers, source = vault_markers.markers_of(params, module.check_mode), pathlib.Path(params["src"])
    try:
        snapshots.check_snapshot(source.read_bytes())
    except OSError as error:
        raise vault.VaultProblem(f"The snapshot {source} cannot be read: {error.strerror}.") from error
    client = vault.connect(params["url"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], False)
    if state != vault.UNINITIALIZED:
        if params["replace"] or markers.init.read() == vault_markers.RESTORE:
            return {"changed": False, "must_reset": True}
        raise vault.VaultProblem(
            "This server's Vault is initialised, and a restore would replace all that is in it. If that is meant, run"
            " again with -e vault_restore_replace=true."
        )
    if not module.check_mode:
        markers.init.write(vault_markers.RESTORE)
        markers.wipe.write(vault_markers.RESTORE)
        replace(client, source, params)
        markers.init.drop()
    return {"changed": True, "must_reset": False}


def replace(client: vault.hvac.Client, source: pathlib.Path, params: dict) -> None:
    """Open the empty Vault for a moment and put the snapshot in the place of its storage."""
    # With as many shares as the snapshot's Vault has: the running server would go by the number it began with.
    counts = {"secret_shares": params["secret_shares"], "secret_threshold": params["secret_threshold"]}
    passing = client.sys.initialize(**counts)
    vault.submit_shares(client, passing["keys_base64"][: params["secret_threshold"]])
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    token, content = passing["root_token"], source.read_bytes()
    snapshots.replace_storage(client, content, token, params["deadline"], lambda: replaced(client), force=True)


def replaced(client: vault.hvac.Client) -> bool:
    """Whether Vault runs on the snapshot's storage.

    Its keys are others, so Vault seals itself. The host's own unit may have opened it again before that was seen; then
    it does not know the passing Vault's root token, which the client uses, any more.
    """
    try:
        state = vault.state_of(client)
        if state == vault.ACTIVE:
            client.auth.token.lookup_self()
    except vault.hvac.exceptions.Forbidden:
        return True
    except (vault.VaultUnreachable, vault.hvac.exceptions.VaultError, vault.requests.exceptions.RequestException):
        return False  # for a moment, while the storage is replaced
    return state == vault.SEALED


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            "src": {"type": "path", "required": True},
            "secret_shares": {"type": "int", "default": 5, "no_log": False},
            "secret_threshold": {"type": "int", "default": 3, "no_log": False},
            **vault_markers.STATE,
            "replace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    vault.run(module, "restored", restore, {"changed": True, "must_reset": False})


if __name__ == "__main__":
    main()
