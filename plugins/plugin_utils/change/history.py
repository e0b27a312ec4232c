# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a host as a table for an operator."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.columns import aligned

TIME = "%Y-%m-%dT%H:%M:%SZ"
HEAD = ("begun", "took", "who", "from", "what", "version", "result")
NAMES_SHOWN = 4


def table(lines: Iterable[str], running: str = "") -> list[str]:
    """Aligned lines, the newest run last. `running`: the content of the lock file."""
    rows = [HEAD, *(_row(entry) for entry in _entries(lines))]
    rows += [_row({**entry, "result": "not ended"}) for entry in _entries([running])]
    return aligned(rows)


def _entries(lines: Iterable[str]) -> Iterator[Mapping]:
    for line in filter(str.strip, lines):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        yield entry if isinstance(entry, dict) else {"result": f"not readable: {line[:60]}"}


def _row(entry: Mapping) -> tuple[str, ...]:
    what = " ".join(map(str, [entry.get("verb", ""), *(entry.get("options") or ())]))
    texts = (str(entry.get(name) or "-") for name in ("who", "from"))
    return (
        str(entry.get("begun") or "-"),
        _took(entry),
        *texts,
        what,
        str(entry.get("project") or "-"),
        _result(entry),
    )


def _took(entry: Mapping) -> str:
    try:
        begun, ended = (calendar.timegm(time.strptime(str(entry.get(name)), TIME)) for name in ("begun", "ended"))
    except ValueError:
        return "-"
    minutes, seconds = divmod(ended - begun, 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _result(entry: Mapping) -> str:
    changed = [str(name) for name in entry.get("changed") or ()]
    names = "; ".join(changed[:NAMES_SHOWN]) + ("; ..." if len(changed) > NAMES_SHOWN else "")
    at = f" at: {entry['at']}" if entry.get("at") else ""
    what = f", {len(changed)} changed: {names}" if changed else ", nothing changed" if "changed" in entry else ""
    return f"{entry.get('result', '?')}{at}{what}"
