#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin of this name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: login
short_description: Find out which of some users a server lets in
description:
  - Tries to log in by SSH as each of O(users) in turn, with everything else as the inventory has it.
  - A server that refuses a user is not unreachable, so the run goes on quietly with the next user.
  - The login that works stays open for the tasks that follow, so it costs them nothing.
  - This is an action plugin; nothing runs on the server but C(true).
options:
  users:
    description: The users to try, the preferred one first.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds to wait for the server's answer.
    type: int
    default: 10
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Find out whether the server is new
  openmates.server.login:
    users: [admin, root]
  register: login_found
"""

RETURN = r"""
user:
  description: The first of the users that could log in.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="openmates.server.login runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
