# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run on several servers ended, as one table: the failed ones first, each with its cause."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.columns import aligned

LONGEST_CAUSE = 300
STATES = ("failed", "unreachable", "not reached", "ok")  # in the order of the table


def cause_of(task: str, result: Mapping[str, t.Any]) -> str:
    """One line: the task, and the first words of its error. A heading is followed by the first entry below it."""
    failed = [item for item in result.get("results") or () if item.get("failed")] or [result]
    lines = [line.strip() for line in str(failed[0].get("msg") or "").splitlines() if line.strip()]
    if not lines:
        return task
    words = f"{lines[0]} {lines[1].removeprefix('- ')}" if lines[0].endswith(":") and lines[1:] else lines[0]
    words = words if len(words) <= LONGEST_CAUSE else words[: LONGEST_CAUSE - 1] + "…"
    entries = sum(line.startswith("- ") for line in lines)
    return f"{task}: {words}" + (f" (and {entries - 1} more)" if entries > 1 else "")


def summary_of(servers: Iterable[str], counts: Mapping[str, Mapping[str, int]], causes: Mapping[str, str]) -> list[str]:
    """The lines. `counts`: Ansible's for each host that had a task; `causes`: of those with a failure."""
    rows = []
    for server in servers:
        found = counts.get(server) or {}
        state = "not reached"
        if any(found.values()):
            state = "failed" if found.get("failures") else "unreachable" if found.get("unreachable") else "ok"
        told = causes.get(server, "") if state in ("failed", "unreachable") else ""
        if state == "ok":
            told = f"{found['changed']} changed" if found.get("changed") else "nothing changed"
        rows.append([server, state, told])
    rows.sort(key=lambda row: STATES.index(row[1]))
    fine = sum(row[1] == "ok" for row in rows)
    head = f"{fine} of {len(rows)} servers: ok" if fine < len(rows) else f"All {len(rows)} servers: ok"
    return [head, *aligned(rows, "  ")]
