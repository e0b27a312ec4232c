# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dry run would change on each host: tasks, and what their results name, never a value."""

from __future__ import annotations

import json
import textwrap
import typing as t
from collections.abc import Iterator, Mapping, Sequence

WIDTH = 100
#: Where the project's modules name what they change: paths, units, objects, keys of a mapping.
NAMING = ("written", "corrected", "removed", "sysctl_applied", "actions", "changes", "keys")
METRICS = """\
# HELP openmates_drift_tasks Tasks of site.yml that would change the server.
# TYPE openmates_drift_tasks gauge
openmates_drift_tasks {tasks}
# HELP openmates_drift_last_check_timestamp_seconds When that was found out.
# TYPE openmates_drift_last_check_timestamp_seconds gauge
openmates_drift_last_check_timestamp_seconds {time}
"""


class Finding(t.NamedTuple):
    """A task that would change something, and the names in its result, if it has some."""

    task: str
    names: list[str]


class Findings:
    """Collects while the run lasts, in the main process; a worker that is forked later has them."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, dict[str, None]]] = {}

    def add(self, host: str, task: str, result: Mapping) -> None:
        self._found.setdefault(host, {}).setdefault(task, {}).update(dict.fromkeys(_names(result)))

    def of(self, host: str) -> list[Finding]:
        return [Finding(task, list(names)) for task, names in self._found.get(host, {}).items()]


FINDINGS = Findings()


def _names(result: Mapping) -> Iterator[str]:
    for part in (result, *(result.get("results") or ())):
        for key in NAMING:
            value = part.get(key)
            if isinstance(value, str):
                yield value
            elif isinstance(value, Sequence):
                yield from map(str, value)


def report(host: str, findings: Sequence[Finding]) -> list[str]:
    """Lines for an operator."""
    if not findings:
        return [f"{host}: no drift, it is as the inventory declares it"]
    count = "1 task" if len(findings) == 1 else f"{len(findings)} tasks"
    lines = [f"{host}: DRIFT, {count} of site.yml would change it"]
    for finding in findings:
        names = f": {', '.join(finding.names)}" if finding.names else ""
        lines += textwrap.wrap(
            finding.task + names, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
        )
    return lines


def record(host: str, findings: Sequence[Finding], time: int) -> dict[str, t.Any]:
    """For programs, and for the status of the server. time: seconds since 1970."""
    return {"host": host, "time": time, "drift": [finding._asdict() for finding in findings]}


def document(found: Mapping) -> str:
    """A record as one line of JSON."""
    return json.dumps(found, sort_keys=True)


def metrics(found: Mapping) -> str:
    """A record in Prometheus' text format."""
    return METRICS.format(tasks=len(found["drift"]), time=found["time"])
