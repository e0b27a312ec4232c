#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin of this name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: operator_secrets
short_description: Make the missing secrets of an inventory, encrypted
description:
  - Writes random values for the secrets that neither the file nor another part of the inventory sets. Those that are
    there stay as they are, and so do comments.
  - Encrypts in the process of the run with its ansible-vault password, whatever that comes from, so that no value is in
    an argument, in an output or on disk in plaintext. An existing file keeps the password that opened it.
  - A module of our own because a template and a call of C(ansible-vault) would show or write the values in plaintext.
    It is an action plugin; nothing runs on the server.
  - Use C(throttle=1), because the servers of an environment share a file.
options:
  path:
    description: The file on the controller, an absolute path.
    type: path
    required: true
  password_file:
    description: The file of the ansible-vault password if the run has none. It is made, for its owner only, if missing.
    type: path
attributes:
  check_mode: {support: full, description: Reports what it would add.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Make the missing secrets
  openmates.server.operator_secrets:
    path: "{{ settings.secrets_file }}"
  throttle: 1
"""

RETURN = r"""
added:
  description: The names of the secrets that were missing.
  type: list
  elements: str
  returned: success
path:
  description: The file.
  type: str
  returned: success
password_source:
  description: The file or client script that the password is from; empty for a prompt.
  type: str
  returned: success
vault_id:
  description: The name of the password.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "password_file": {"type": "path"}},
        supports_check_mode=True,
    )
    module.fail_json(msg="openmates.server.operator_secrets runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
