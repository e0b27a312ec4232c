# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return what this dry run would change on a host, on the controller."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.change import drift


class ActionModule(ActionBase):
    """Returns what the callback plugin openmates_drift has collected."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        host = task_vars["inventory_hostname"]
        found = drift.FINDINGS.of(host)
        record = drift.record(host, found, int(time.time()))
        texts = {
            "report": drift.report(host, found),
            "document": drift.document(record),
            "metrics": drift.metrics(record),
        }
        return result | {"changed": False, "drift": record["drift"], **texts}
