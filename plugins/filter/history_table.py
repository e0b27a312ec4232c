# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the history of a host."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.change.history import table

DOCUMENTATION = r"""
name: history_table
short_description: The lines of a host's history as a table
version_added: 0.1.0
description: Takes the lines that M(openmates.server.change_lock) adds to a host's history. The newest run is the last.
options:
  _input:
    description: The lines, each with one JSON object.
    type: list
    elements: str
    required: true
  running:
    description: The content of the lock file, which has the run that has not ended.
    type: str
    default: ""
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
lines: "{{ history.stdout_lines | openmates.server.history_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"history_table": table}
