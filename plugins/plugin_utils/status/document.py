# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a server for programs: one line of JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.status import runs, services
from ansible_collections.openmates.server.plugins.plugin_utils.status.faults import faults_of

#: Facts that are passed on as the module returned them.
AS_READ = ("vault", "certificate", "maintenance", "move", "disks", "updates", "reboot", "failed_units", "drift", "scan")


def document_of(seen: Mapping) -> str:
    """All that the table shows, and the faults, as JSON."""
    info, faults = seen["info"], faults_of(seen)
    last = next(runs.all_runs(info), None)
    return json.dumps(
        {
            "host": seen.get("host"),
            "environment": seen.get("environment"),
            "time": info["time"],
            "ok": not faults,
            "faults": [fault._asdict() for fault in faults],
            "services": {
                name: {**container, "run": runs.run_at(info, container.get("created")) or None}
                for name, container in services.containers(seen).items()
            },
            "ready": _output(info.get("ready")),
            "backups": _output(info.get("backup")),
            "last_run": last,
            **{name: info.get(name) for name in AS_READ},
        },
        sort_keys=True,
    )


def _output(result: Mapping | None) -> object:
    """What a program on the server printed; null if that is no JSON."""
    with contextlib.suppress(ValueError):
        return json.loads((result or {}).get("stdout") or "")
    return None
