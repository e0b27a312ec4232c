# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to each host, as its history has it: names of tasks, and never a result or a value."""

from __future__ import annotations

import secrets
import typing as t
from collections import Counter
from collections.abc import Mapping

MOST_NAMES = 50


class Outcomes:
    """Collects while the run lasts."""

    def __init__(self) -> None:
        self._changed: dict[str, dict[str, None]] = {}
        self._failed: dict[str, str] = {}
        self._count: Counter[str] | None = None  # until the callback plugin reports to it

    def begin(self) -> None:
        self._changed, self._failed, self._count = {}, {}, Counter()

    def changed(self, host: str, task: str) -> None:
        self._changed.setdefault(host, {})[task] = None
        self.uncertain(host)

    def failed(self, host: str, task: str) -> None:
        self._failed[host] = task

    def uncertain(self, host: str) -> None:
        """A task has changed a host, or may have."""
        if self._count is not None:
            self._count[host] += 1

    def count(self, host: str) -> int | str:
        """How many tasks have changed a host, or may have: a host with the same number later is as it was.

        Without the callback plugin it is not known, and each call returns something else.
        """
        return secrets.token_hex(8) if self._count is None else self._count[host]

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


#: Of this run. In the main process it is up to date; a worker has what was known when it was forked.
OUTCOMES = Outcomes()
