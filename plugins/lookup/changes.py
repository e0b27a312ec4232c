# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many tasks of this run have changed the host so far."""

from __future__ import annotations

DOCUMENTATION = r"""
name: changes
short_description: How many tasks of this run have changed the host so far
version_added: 0.1.0
author: The openmates.server contributors
description:
  - Returns a number. While it is the same, no task has reported a change of the host, and none has failed.
  - What was read of the host before, such as by M(openmates.server.outside_probe) with its option C(start), still holds
    then.
  - The number comes from a callback plugin beside the project's playbooks. In other playbooks the lookup returns
    another value each time, so that nothing is taken to hold.
"""

EXAMPLES = r"""
- name: Scan again if something has changed since
  ansible.builtin.include_tasks: scan.yml
  when: started.changes != lookup('openmates.server.changes')
"""

RETURN = r"""
_raw:
  description: One number, or without the callback plugin one text.
  type: list
"""

from ansible.plugins.lookup import LookupBase
from ansible_collections.openmates.server.plugins.plugin_utils.change.outcome import OUTCOMES


class LookupModule(LookupBase):
    """Reads what the main process knew when it forked this worker."""

    def run(self, terms, variables=None, **kwargs):
        return [OUTCOMES.count(variables["inventory_hostname"])]
