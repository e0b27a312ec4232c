# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse a duration in Vault's format."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.openmates.server.plugins.module_utils.duration import seconds

DOCUMENTATION = r"""
name: duration_seconds
short_description: Seconds of a duration such as 768h
description: Takes durations in Vault's format, C(768h), C(90m), C(1h30m), C(32d) or plain seconds.
options:
  _input:
    description: The duration.
    type: str
    required: true
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
# -> 5400
seconds: "{{ '1h30m' | openmates.server.duration_seconds }}"
"""

RETURN = r"""
_value:
  description: The seconds.
  type: int
"""


def duration_seconds(duration: str | int) -> int:
    """The duration in seconds. Raises AnsibleFilterError if it is none."""
    try:
        return seconds(duration)
    except ValueError as problem:
        raise AnsibleFilterError(str(problem)) from None


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"duration_seconds": duration_seconds}
