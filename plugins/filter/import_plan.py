# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says whether a server can be taken over; its documentation is beside this file."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils import import_plan


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"import_plan": import_plan.plan}
