# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a server; each filter is documented in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.status.document import document_of
from ansible_collections.openmates.server.plugins.plugin_utils.status.faults import faults_of
from ansible_collections.openmates.server.plugins.plugin_utils.status.table import table_of


def texts_of(seen: Mapping) -> list[str]:
    return [fault.text for fault in faults_of(seen)]


class FilterModule:
    """Filters of openmates.server about the status of a server."""

    def filters(self) -> dict:
        return {"status_document": document_of, "status_faults": texts_of, "status_report": table_of}
