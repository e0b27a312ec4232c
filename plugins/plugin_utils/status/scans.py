# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server has seen of the ports of the other servers of its inventory, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.module_utils.peer_scan import HOUR, MOST_PORTS, SEEN, clean
from ansible_collections.openmates.server.plugins.plugin_utils.status.times import duration


def results_of(seen: Mapping) -> list[Mapping]:
    """The results for the servers that it is to scan."""
    record = seen["info"].get("scan") or {}
    return [one for one in record.get("results", []) if one["server"] in (seen.get("scanned") or [])]


def summary(seen: Mapping) -> str:
    """For the table; empty if this server has scanned no other one, so that the table of most servers fits 24 lines."""
    results, now = results_of(seen), seen["info"]["time"]
    servers = list(dict.fromkeys(one["server"] for one in results))
    unknown = [name for name in seen.get("scanned") or [] if name not in servers]
    if not results:
        return ""
    well = [name for name in servers if all(clean(one) for one in results if one["server"] == name)]
    age = duration(now - min(one["full"] for one in results))
    text = f"{len(well)} of {len(servers)} other servers as declared, {age} ago at most"
    return f"{text}; not yet: {', '.join(unknown)}" if unknown else text


def problems_of(seen: Mapping, verify: str, site: str) -> Iterator[str]:
    """One sentence for each thing that is wrong at an address, with its remedy."""
    remedy = f"{verify} names the program. If that is so on purpose: {site} for all servers at once"
    hours = (seen["info"].get("scan") or {}).get("hours", 0)
    for one in results_of(seen):
        where = f"{one['server']} at {one['address']}, seen from here"
        if one["unexpected"]:
            yield f"{where}: {_ports(one['unexpected'])} open and not declared. {remedy}"
        if one["missing"]:
            yield f"{where}: {_ports(one['missing'])} declared and closed. {remedy}"
        if one["state"] != SEEN:
            yield f"{where}: {one['reason']}. `sudo journalctl -u openmates-scan` on this host has earlier scans"
        elif seen["info"]["time"] - one["seen"] > 2 * hours * HOUR:
            age = duration(seen["info"]["time"] - one["seen"])
            yield f"{where}: not scanned for {age}. `sudo journalctl -u openmates-scan` on this host says why"


def _ports(ports: list[int]) -> str:
    rest = f" and {len(ports) - MOST_PORTS} more" if len(ports) > MOST_PORTS else ""
    listed = ", ".join(map(str, ports[:MOST_PORTS])) + rest
    return f"port {listed} is" if len(ports) == 1 else f"ports {listed} are"
