#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which polls compose_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_wait
short_description: Wait until no one-shot of a Compose project runs any more, and show the progress of each
description:
  - Waits for the one-shots, the services whose C(restart) is C(no). Compose waits for them only if another service
    depends on them.
  - Shows a line every few seconds with the last line of the one-shot's own progress, one that begins with its name and
    a colon, or else the last line of its log.
  - An action plugin. It returns what M(openmates.server.compose_info) does, as of the end of the wait.
  - A module of our own because a task with C(until) shows nothing of a one-shot that takes a quarter of an hour.
options:
  project_src:
    description: The directory with the Compose files.
    type: path
    required: true
  timeout:
    description: Seconds to wait. A one-shot that still runs then is reported as C(running); this does not fail.
    type: int
    default: 600
attributes:
  check_mode: {support: full, description: "Changes nothing in any mode, and does not wait in check mode."}
seealso: [{module: openmates.server.compose_info}]
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Wait for cms-setup
  openmates.server.compose_wait:
    project_src: /opt/openmates
    timeout: 3600
  register: compose
"""

RETURN = r"""
waited:
  description: Seconds waited.
  type: int
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {"project_src": {"type": "path", "required": True}, "timeout": {"type": "int", "default": 600}}


def main() -> None:
    AnsibleModule(argument_spec=ARGUMENTS).fail_json(msg="compose_wait runs on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
