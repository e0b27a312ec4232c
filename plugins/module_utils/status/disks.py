# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the file systems are, and when they will be full, as far as two measurements of Prometheus tell."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import typing as t
import urllib.parse
from collections.abc import Callable, Collection, Iterator

SECONDS = 5
DAY = 86400

#: The value of a query now; None without one.
Ask = Callable[[str], float | None]


def found(paths: Collection[str], ask: Ask) -> list[dict[str, t.Any]]:
    """Each file system of the paths, under the first path in it that there is."""
    seen: set[int] = set()
    disks = []
    for path in paths:
        with contextlib.suppress(OSError):
            device, space = os.stat(path).st_dev, os.statvfs(path)  # noqa: PTH116 - beside statvfs
            if device in seen:
                continue
            seen.add(device)
            # As df: root's reserve is no space, and what is reserved is not used.
            used = (space.f_blocks - space.f_bfree) * space.f_frsize
            free = space.f_bavail * space.f_frsize
            percent = round(100 * used / (used + free)) if used + free else 0
            disks.append({"path": path, "percent": percent, "free": free, "days_left": days_left(path, ask)})
    return disks


def days_left(mount: str, ask: Ask) -> float | None:
    """The days until it is full if it fills as in the last day; None if it does not, or no one measured it."""
    metric = f'node_filesystem_avail_bytes{{mountpoint="{mount}"}}'
    now, before = ask(metric), ask(f"{metric} offset 1d")
    if now is None or before is None or before <= now:
        return None
    return now / (before - now)


def prometheus(address: str) -> Ask:
    """Asks the Prometheus at an address; an empty one never answers."""

    def ask(query: str) -> float | None:
        if not address:
            return None
        connection = http.client.HTTPConnection(address, 9090, timeout=SECONDS)
        try:
            connection.request("GET", f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
            return next(_values(json.loads(connection.getresponse().read())), None)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    return ask


def _values(answer: dict) -> Iterator[float]:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        for sample in answer["data"]["result"]:
            yield float(sample["value"][1])
