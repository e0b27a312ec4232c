# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade of packages does; each filter is documented in a file of its own."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.apt import download_bytes, plan
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.needrestart import needs
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.report import report
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.space import space_problems


class FilterModule:
    """Filters of openmates.server about an upgrade of packages."""

    def filters(self) -> dict:
        return {
            "upgrade_download_bytes": download_bytes,
            "upgrade_needs": needs,
            "upgrade_plan": plan,
            "upgrade_report": report,
            "upgrade_space_problems": space_problems,
        }
