# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are derived from a memory limit."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.openmates.server.plugins.plugin_utils.memory_plan import GO_SHARE, megabytes


def go_memory_limit(limit: str) -> str:
    """The value of GOMEMLIMIT for a program in Go with that Compose memory limit."""
    size = megabytes(limit)
    if size is None:
        raise AnsibleFilterError(f"openmates_memory: {limit!r} is not a memory limit. Write it as 256M or 1G")
    return f"{int(size * GO_SHARE)}MiB"


class FilterModule:
    """Filters of openmates.server about memory."""

    def filters(self) -> dict:
        return {"go_memory_limit": go_memory_limit}
