# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that judges settings and host before a run."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.checks import preflight_problems


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"preflight_problems": preflight_problems}
