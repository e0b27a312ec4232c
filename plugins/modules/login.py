#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: login
short_description: Find which of several users a server accepts
description:
  - Tries to log in by SSH as each of O(users) in turn, with the inventory's other connection settings.
  - A server that refuses a user is reachable, so the next user is tried without an error.
  - The connection stays open for the tasks that follow.
  - A server that is not reached by SSH is an error, since a change of SSH could not be guarded there.
  - A user other than root must be able to use sudo without a password, unless C(become_pass) is given.
  - A server that lets none in is reported with the cause, as far as ssh's messages tell it, and the remedy.
  - This is an action plugin; it runs only C(true) on the server.
  - A module of our own because with M(ansible.builtin.ping) a server that refuses a user counts as unreachable, which
    ends the run for it.
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
  bastion:
    description: The host that the connection goes through, as user@host or user@host:port, for the messages.
    type: str
    default: ""
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Find the login user
  openmates.server.login:
    users: [admin, root]
  register: login_found
"""

RETURN = r"""
user:
  description: The first of the users that could log in.
  type: str
  returned: success
ssh_extra_args:
  description: The arguments for ssh, from the inventory and the playbooks, with which it logged in.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 10},
            "bastion": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="openmates.server.login runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
