#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tunnel
short_description: Open a tunnel to a server's internal tool until the run is interrupted
version_added: 0.1.0
description:
  - Forwards a port of the controller's loopback address over SSH, with the inventory's connection settings, through a
    bastion too. Prints the address when the tool answers.
  - Returns only when the tunnel is closed, so it fails in any case, with the reason. Ctrl-C ends the run and the
    tunnel. No process is left, also when the run is killed.
  - This is an action plugin; it runs nothing on the server.
  - A module of our own because the connection plugins of Ansible forward no ports.
options:
  name:
    description: The tool's name.
    type: str
    required: true
  address:
    description: Where the tool listens, as the server reaches it.
    type: str
    required: true
  port:
    description: The port that it listens on.
    type: int
    required: true
  local_port:
    description: The port of the controller. V(0) for the first free one of O(preferred_ports), or any.
    type: int
    default: 0
  preferred_ports:
    description: Ports to try first.
    type: list
    elements: int
    default: []
  login:
    description: How to log in, which is printed. No secret.
    type: str
    required: true
  password:
    description: The variable that has the password. The command that shows it is printed, not the password.
    type: str
    default: ""
attributes:
  check_mode: {support: none, description: The task is skipped.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Open the tunnel
  openmates.server.tunnel:
    name: grafana
    address: 172.30.0.12
    port: 3000
    login: Log in as admin.
    password: openmates_grafana_password
"""

RETURN = r"""
msg:
  description: Why the tunnel was closed or could not be opened.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "local_port": {"type": "int", "default": 0},
    "preferred_ports": {"type": "list", "elements": "int", "default": []},
    "login": {"type": "str", "required": True},
    "password": {"type": "str", "default": "", "no_log": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    module.fail_json(msg="openmates.server.tunnel runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
