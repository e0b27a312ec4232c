#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drift_info
short_description: Return what this dry run would change on a server
description:
  - Returns the tasks of this run that would have changed the server, with the names in their results.
  - The callback plugin openmates_drift collects them, in C(openmates.server.drift) only.
  - This is an action plugin; it does not connect to the server.
  - A module of our own because in a run of Ansible no task sees the results of the tasks before it as a whole.
options: {}
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read what was found
  openmates.server.drift_info:
  register: drift_found
"""

RETURN = r"""
drift:
  description: The tasks that would change something, each with C(task) and the C(names) in its result. No values.
  type: list
  elements: dict
  returned: always
report:
  description: The same in lines for an operator.
  type: list
  elements: str
  returned: always
document:
  description: The same as JSON, with host and time, in one line.
  type: str
  returned: always
metrics:
  description: The number of tasks and the time in Prometheus' text format.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.fail_json(msg="openmates.server.drift_info runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
