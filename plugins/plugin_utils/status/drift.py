# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last drift check of a server found, as far as no later run of site.yml has put it right."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.status import runs


def last_check(info: Mapping) -> Mapping:
    """The record of the last check; empty if there was none since the server was last provisioned."""
    record = info.get("drift") or {}
    provisioned = (
        runs.moment(run.get("ended")) or 0
        for run in runs.all_runs(info)
        if run.get("verb") == "site" and run.get("result") == "ok" and not run.get("options")
    )
    return record if record and record["time"] >= next(provisioned, 0) else {}


def count(record: Mapping) -> str:
    found = record["drift"]
    return "1 task" if len(found) == 1 else f"{len(found)} tasks"


def summary(record: Mapping) -> str:
    """How many tasks would change the server, and the first of them."""
    first = ", ".join(entry["task"] for entry in record["drift"][:2]) + (", ..." if len(record["drift"]) > 2 else "")
    return f"{count(record)} of site.yml would change it: {first}"
