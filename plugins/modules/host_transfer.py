#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_transfer
short_description: Copy files from another host of the inventory through the controller's memory
version_added: 0.1.0
description:
  - Reads each file from O(source_host) in pieces and appends them to a file on the task's host. No piece is written to
    the controller's disk, to a result or to a log, and neither host needs a way to the other.
  - The caller compares the content, as with a digest that was taken before.
  - This is an action plugin. It uses both hosts' own connections, with their users and bastions.
  - A module of our own because M(ansible.builtin.fetch) and M(ansible.builtin.copy) would leave a copy on the
    controller, and M(ansible.posix.synchronize) needs a login from one host to the other.
options:
  source_host:
    description: The host that has the files, by its name in the inventory.
    type: str
    required: true
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      src: {description: "Absolute path on O(source_host).", type: str, required: true}
      dest: {description: "Absolute path on the task's host, which is replaced.", type: str, required: true}
      bytes: {description: "The size.", type: int, required: true}
attributes:
  check_mode: {support: none, description: The task is skipped.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Copy the dump
  openmates.server.host_transfer:
    source_host: old1
    files:
      - {src: /root/export/database.dump, dest: /root/export/database.dump, bytes: 1048576}
"""

RETURN = r"""
bytes:
  description: How much was copied.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "source_host": {"type": "str", "required": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "src": {"type": "str", "required": True},
            "dest": {"type": "str", "required": True},
            "bytes": {"type": "int", "required": True},
        },
    },
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    module.fail_json(msg="openmates.server.host_transfer runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
