# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to each host, as its history has it: names of tasks, and never a result or a value."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

MOST_NAMES = 50


class Outcomes:
    """Collects while the run lasts."""

    def __init__(self) -> None:
        self._changed: dict[str, dict[str, None]] = {}
        self._failed: dict[str, str] = {}

    def changed(self, host: str, task: str) -> None:
        self._changed.setdefault(host, {})[task] = None

    def failed(self, host: str, task: str) -> None:
        self._failed[host] = task

    def of(self, host: str, counts: Mapping[str, int]) -> dict[str, t.Any]:
        """The outcome, from Ansible's counts of a host. A failure that a rescue handled is none."""
        names = list(self._changed.get(host, ()))
        outcome: dict[str, t.Any] = {"result": "ok", "changed": names[:MOST_NAMES]}
        if len(names) > MOST_NAMES:
            outcome["changed"].append(f"and {len(names) - MOST_NAMES} more")
        for kind in ("failures", "unreachable"):
            if counts.get(kind):
                outcome |= {"result": {"failures": "failed"}.get(kind, kind), "at": self._failed.get(host, "")}
        return outcome
