#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_arguments
short_description: Check the arguments of a playbook before any connection
description:
  - Fails if a required argument has no value, if a value is not of its type, or if a name given with C(-e) is unknown
    and resembles an argument. The message names each problem, lists the playbook's arguments and shows an example.
  - A name is unknown if no role and no C(group_vars) file of this project has a variable of that name. Names that begin
    with C(ansible_) are Ansible's own and always accepted.
  - An argument may be set wherever Ansible reads variables, not only with C(-e).
  - This is an action plugin; nothing runs on the server. Make it the first task of the playbook, with C(tags=always).
  - A module of our own because M(ansible.builtin.validate_argument_spec) accepts a misspelt name without a message,
    and does not know files of the controller.
options:
  arguments:
    description:
      - The playbook's arguments by name.
      - Each has a C(description) (a clause without a full stop), and may have C(required), C(type) (str, the default,
        bool, int, list, dict, or file for a file that must exist on the controller) and C(choices).
    type: dict
    default: {}
  example:
    description: The arguments of a valid call, after C(ansible-playbook PLAYBOOK -i prod).
    type: str
    default: ""
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Check the arguments
  openmates.server.check_arguments:
    arguments:
      vault_rotate_path: {required: true, description: the path of the secret below kv}
    example: -e vault_rotate_path=providers/openai
  tags: always
"""

RETURN = r"""
msg:
  description: The problems of the arguments, and a valid call.
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "arguments": {"type": "dict", "default": {}},
            "example": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="openmates.server.check_arguments runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
