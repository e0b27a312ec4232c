# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run of a playbook made a container, and which was the last."""

from __future__ import annotations

import calendar
import contextlib
import time
from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.change.history import TIME

#: The engine's clock and that of the history are the same, but the history has whole seconds.
ROUNDING = 1
DAY = 86400


def moment(text: object) -> float | None:
    """Seconds since 1970 of a time in the history; None if there is none."""
    with contextlib.suppress(ValueError):
        return calendar.timegm(time.strptime(str(text), TIME))
    return None


def all_runs(info: Mapping) -> Iterator[Mapping]:
    """The newest first, with the one that has not ended."""
    runs = info.get("runs") or {}
    if runs.get("running"):
        yield {**runs["running"], "result": "running"}
    yield from reversed(runs.get("ended") or [])


def run_at(info: Mapping, when: float | None) -> Mapping:
    """The run in which a moment lies; empty if there is none."""
    for run in all_runs(info):
        begun, ended = moment(run.get("begun")), moment(run.get("ended"))
        if when is None or begun is None:
            continue
        if ended is None:  # it runs, or was cut off at a time that no one noted
            ended = info["time"] if run["result"] == "running" else begun
        if begun - ROUNDING <= when <= ended + ROUNDING:
            return run
    return {}


def name(run: Mapping, now: float) -> str:
    """A run in a few words, with the time of the last day or the date: `deploy 15:04`, `site 11-27`."""
    begun = moment(run.get("begun"))
    if begun is None:
        return "-"
    return f"{run.get('verb', '?')} {time.strftime('%H:%M' if now - begun < DAY else '%m-%d', time.gmtime(begun))}"
