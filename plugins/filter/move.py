# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says how a move begins or goes on; its documentation is beside this file."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils import move


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"move_plan": move.plan}
