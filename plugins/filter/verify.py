# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of verifying a live server; each filter is documented in a file of its own."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.verify.problems import problems_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.report import report_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import host_has_to_be_asked


class FilterModule:
    """Filters of openmates.server about a live server."""

    def filters(self) -> dict:
        return {
            "verify_ask_host": host_has_to_be_asked,
            "verify_problems": problems_of,
            "verify_report": report_of,
        }
