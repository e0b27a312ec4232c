#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have systemd keep a secret for a unit of the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_credential
short_description: Have systemd keep a secret encrypted on the host, for units that load it
description:
  - Encrypts a mapping of texts with the host's own key (and its TPM where there is one), for
    C(LoadCredentialEncrypted=). The secret is in no plaintext file, argument, log or difference.
  - Compares by decrypting, so a credential that this host cannot decrypt any more is replaced as well.
  - Called through its action plugin, which switches pipelining on, so that the arguments are in no file on the host.
  - A module of our own because M(ansible.builtin.command) with C(systemd-creds) is never idempotent, and no module of
    the collections writes credentials.
options:
  path:
    description: The encrypted file. Its name is the credential's.
    type: path
    required: true
  content:
    description: The mapping as JSON.
    type: json
    required: true
requirements:
  - systemd-creds on the host
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: full, description: Names of the keys only.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Keep the password of the repository for the unit that backs up
  openmates.server.host_credential:
    path: /etc/credstore.encrypted/openmates-backup
    content: "{{ {'password': backup_password} | to_json }}"
"""

RETURN = r"""
keys:
  description: The keys of the mapping that were added, changed or removed.
  type: list
  elements: str
  returned: success
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.credential import Credential, CredentialProblem


def differing(held: dict, wanted: dict) -> list[str]:
    """The keys whose value is not the same in both."""
    return sorted(key for key in held.keys() | wanted.keys() if held.get(key) != wanted.get(key))


def listed(keys: list[str] | dict) -> str:
    return "".join(f"{key}: (hidden)\n" for key in sorted(keys))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "json", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    shown = {"module_args": {"path": module.params["path"]}}
    wanted = json.loads(module.params["content"])
    if not isinstance(wanted, dict):
        module.fail_json(msg="content must be a mapping.", invocation=shown)
    credential = Credential(module, module.params["path"])
    held = credential.read()
    keys = differing(held or {}, wanted)
    changed = held is None or bool(keys)
    try:
        if changed and not module.check_mode:
            credential.write(wanted)
    except CredentialProblem as problem:
        module.fail_json(msg=str(problem), invocation=shown)
    result = {"changed": changed, "keys": keys}
    if module._diff:
        # Both sides differ only where a value does, and none of them is shown.
        before = "".join(f"{key}: (hidden{', former' if key in keys else ''})\n" for key in sorted(held or {}))
        result["diff"] = {"before": before, "after": listed(wanted)}
    module.exit_json(**result, invocation=shown)


if __name__ == "__main__":
    main()
