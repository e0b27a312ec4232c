#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run systemd units with the current content of their configuration files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_units
short_description: Bring systemd services and timers to their state, with their current configuration
description:
  - Starts and enables units, or stops and disables them, in one call.
  - Reloads or restarts a running unit when one of its files was changed after its last start or reload, and reloads
    systemd if a unit file changed after it was last read.
  - A module of our own because M(ansible.builtin.systemd_service) takes one unit per call and relies on a handler for
    the restart. A handler is lost if a run is interrupted before it; this module reads the state from the host instead.
attributes:
  check_mode: {support: full, description: A unit that does not exist yet counts as one to be started.}
  diff_mode: {support: none, description: The result names what was done.}
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.units]
"""

EXAMPLES = r"""
- name: Run the clock and the journal with their current configuration
  openmates.server.host_units:
    units:
      - {name: chrony, files: [/etc/chrony/conf.d/openmates.conf], refresh: restart}
      - {name: systemd-journald, files: [/etc/systemd/journald.conf.d/openmates.conf], refresh: restart}
"""

RETURN = r"""
actions:
  description: The systemctl verbs that were, or in check mode would be, used, each with its unit.
  type: list
  elements: str
  returned: always
  sample: [daemon-reload, restart chrony]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import units


def main() -> None:
    module = AnsibleModule(argument_spec={"units": units.UNITS}, supports_check_mode=True)
    run = units.Units(module)
    try:
        run.converge(module.params["units"])
    except units.UnitFailed as error:
        module.fail_json(msg=str(error), actions=run.done)
    module.exit_json(changed=bool(run.done), actions=run.done)


if __name__ == "__main__":
    main()
