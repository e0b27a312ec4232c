#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_key
short_description: Pin the SSH host key of a server that this machine meets for the first time
description:
  - Fetches the Ed25519 host key of the server, or of O(bastion), with the inventory's connection settings.
  - A key that this machine knows is left as it is. A key that differs from the known one is an error.
  - An unknown key is shown with its fingerprint, and written to O(file) after the operator has confirmed it, or if
    O(fingerprints) has it. ansible-core 2.19 and later never ask that question.
  - This is an action plugin; it does not log in. A module of our own because P(ansible.builtin.known_hosts#module)
    neither fetches a key nor compares a fingerprint before the first login, nor goes through a bastion.
options:
  file:
    description: The file of known hosts on the controller. Made if it is missing.
    type: path
    required: true
  fingerprints:
    description:
      - The fingerprints to accept without a question, each as C(SHA256:...).
      - C(accept) accepts any key of a server that is not known yet, which is for lab hosts only.
    type: list
    elements: str
    default: []
  bastion:
    description: The host that the connection goes through, as user@host or user@host:port.
    type: str
    default: ""
  key_of:
    description: Whose key. Pin that of the bastion first, in a task of its own; the server is reached through it.
    type: str
    choices: [server, bastion]
    default: server
  timeout:
    description: Seconds to wait for the server's answer.
    type: int
    default: 10
attributes:
  check_mode: {support: none, description: Skipped. Whether a key is the right one cannot be tried.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Pin the server's host key
  openmates.server.host_key:
    file: "{{ inventory_dir }}/../known_hosts"
    fingerprints: [SHA256:r3htE82e3Q6b3n9iSV6KNh9Ww4U6mbIw0GHgllyEwfg]
"""

RETURN = r"""
pinned:
  description: What was written to the file, each with C(name) and C(fingerprint).
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "file": {"type": "path", "required": True},
    "fingerprints": {"type": "list", "elements": "str", "default": []},
    "bastion": {"type": "str", "default": ""},
    "key_of": {"type": "str", "choices": ["server", "bastion"], "default": "server"},
    "timeout": {"type": "int", "default": 10},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.fail_json(msg="openmates.server.host_key runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
