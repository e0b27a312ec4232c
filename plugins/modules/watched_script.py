#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin of this name, which runs a script and shows its progress."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watched_script
short_description: Run a script of a role on the host and show its progress while it runs
description:
  - Does what M(ansible.builtin.script) does, for scripts that take minutes. The script runs in the background, and its
    last line of progress is shown every few seconds. A line of progress is one on standard error that begins with
    C(progress:); such lines are not part of the result.
  - Fails if the script's exit status is not 0, unless C(failed_when) judges otherwise.
  - A run that is killed leaves the script running to its end.
  - A module of our own because M(ansible.builtin.script) shows nothing before the end and does not take C(async).
options:
  src:
    description: The script, in the role's C(files).
    type: path
    required: true
  arguments:
    description: The script's arguments.
    type: list
    elements: str
    default: []
  chdir:
    description: The working directory on the host.
    type: path
    required: true
  executable:
    description: The program on the host that runs the script.
    type: str
    default: python3
attributes:
  check_mode: {support: none, description: The task is skipped.}
seealso: [{module: ansible.builtin.script}, {module: openmates.server.compose_wait}]
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Pull missing images
  openmates.server.watched_script:
    src: pull.py
    arguments: [api, cms]
    chdir: /opt/openmates
  register: pulled
"""

RETURN = r"""
rc:
  description: The script's exit status.
  type: int
  returned: always
stdout_lines:
  description: Its standard output. C(stdout) has it as one text.
  type: list
  elements: str
  returned: always
stderr:
  description: Its standard error without the lines of progress.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "src": {"type": "path", "required": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "chdir": {"type": "path", "required": True},
    "executable": {"type": "str", "default": "python3"},
}


def main() -> None:
    AnsibleModule(argument_spec=ARGUMENTS).fail_json(msg="watched_script runs on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
