#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin of this name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: settings
short_description: Validate the settings of an operator and convert them to their types
description:
  - Reads the variables C(openmates_*) that the argument specification of the role C(settings) declares, wherever they
    are set.
  - Converts each to its declared type, so that C(-e x=false), a text in an INI inventory and a list as JSON text count
    as what they mean. A value that cannot be converted is an error.
  - Refuses names that an operator does not set, such as a misspelt setting, a variable of a role or a derived value.
    The message names the file, the line and the nearest setting. On the command line, variables of roles are accepted.
  - Merges the fields of services that an operator sets in C(openmates_services), in any number of places, over the
    catalogue in the role's defaults, and adds each service's exposure in this environment.
  - A setting that refers to something undefined is left out and returned in C(unresolved).
  - The result holds secrets and is never shown. This is an action plugin; nothing runs on the server.
  - A module of our own because M(ansible.builtin.validate_argument_spec) does not return the converted values, which
    later tasks need, nor judge names.
options: {}
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read the settings
  openmates.server.settings:
  register: settings
"""

RETURN = r"""
ssh_port:
  description: The value of C(openmates_ssh_port); likewise every other setting, by its name without C(openmates_).
  type: int
  returned: success
named:
  description: All settings by their full name.
  type: dict
  returned: success
places:
  description: >-
    Where each setting is set that has not its default, by full name; likewise C(openmates_services.SERVICE.FIELD).
  type: dict
  returned: success
plaintext:
  description: The secrets that the inventory has in plaintext, by file.
  type: dict
  returned: success
unresolved:
  description: Why a setting has no value, by full name.
  type: dict
  returned: success
msg:
  description: What is wrong with the settings, each with its file.
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.fail_json(msg="openmates.server.settings runs on the controller, through its action plugin.")


if __name__ == "__main__":
    main()
