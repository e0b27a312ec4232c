# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that present what a test alert has shown."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.plugin_utils import alert_test


class FilterModule:
    def filters(self) -> Mapping:
        return {"alert_test_report": alert_test.report, "alert_test_problems": alert_test.problems}
