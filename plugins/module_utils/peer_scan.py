# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server sees of the ports of another one of its inventory. roles/monitoring installs this with its program."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils import metrics
except ImportError:  # on the host it is beside this file
    import metrics

#: All ports were seen; no declared port answered; or the scan proves nothing, for the reason that it has.
SEEN, UNREACHABLE, INCOMPLETE = "seen", "unreachable", "incomplete"
ALL, WRONG, NOTHING = "all ports", "what is wrong", ""
EVERY = 3600  # seconds between two starts of the program, which decides what is due
MOST_PORTS = 20  # of an address, each with a series of its own
HOUR = 3600

Result = dict[str, t.Any]


class Target(t.NamedTuple):
    """A server to scan, as its own provisioning has declared it."""

    server: str
    addresses: list[str]
    ports: list[int]
    restricted: list[int]  # ports that only some networks may reach, so that they may be closed from here


def targets(config: Mapping) -> list[Target]:
    """The servers of the inventory whose ports are known. A file of a server that has left it is not read."""
    found = []
    for server in config["servers"]:
        try:
            declared = json.loads(Path(config["targets"], f"{server}.json").read_text())
        except FileNotFoundError:
            continue
        found.append(Target(server, declared["addresses"], declared["ports"], declared["restricted"]))
    return found


def interval(config: Mapping) -> int:
    """Seconds after which all servers are to have been scanned again; 0 if there is none to scan."""
    return config["hours"] * HOUR if targets(config) else 0


def judge(target: Target, address: str, entry: Mapping, now: float) -> Result:
    """A result of tcp_scan.scan, judged. A declared port that answers is the proof that packets get there and back."""
    opened, declared = set(entry["open"]), set(target.ports)
    required = declared - set(target.restricted)
    state, reason = SEEN, ""
    if not entry["reachable"] or entry["intercepted"]:
        state, reason = INCOMPLETE, entry["reason"]
    elif not opened & declared:
        state, reason = UNREACHABLE, "no declared port accepts a connection"
        if not required:
            state, reason = INCOMPLETE, "no declared port accepts connections from here, which would prove the scan"
    elif not entry["reliable"]:
        state, reason = INCOMPLETE, entry["reason"]
    return {
        **{"server": target.server, "address": address, "declared": sorted(declared), "state": state, "reason": reason},
        # When it was looked at, when at all ports, and when all of them were seen.
        **{"time": now, "full": now, "seen": now if state == SEEN else 0, "open": sorted(opened)},
        "unexpected": sorted(opened - declared),
        "missing": sorted(required - opened) if state == SEEN else [],
    }


def clean(result: Mapping) -> bool:
    return result["state"] == SEEN and not result["unexpected"] and not result["missing"]


def following(before: Mapping | None, result: Result) -> Result:
    """The result with what still holds of the one before: that nothing was seen does not close a port that was open."""
    if not before or result["state"] == SEEN:
        return result
    unexpected = set(before["unexpected"]) - set(result["declared"]) | set(result["unexpected"])
    return {**result, "seen": before["seen"], "unexpected": sorted(unexpected)}


def due(before: Mapping | None, target: Target, now: float, seconds: int) -> str:
    """What is to be done with an address: all ports at its time, and what is wrong with it with each start."""
    if not before or before["state"] != SEEN or before["declared"] != sorted(set(target.ports)):
        return ALL
    if not 0 <= now - before["full"] < seconds - EVERY / 2:
        return ALL
    return NOTHING if clean(before) else WRONG


def samples(results: Iterable[Mapping]) -> metrics.Samples:
    """The results as metrics, those of a name together."""
    found: dict[str, tuple[float | None, str]] = {}
    results = list(results)

    def add(name: str, about: str, value: t.Callable[[Mapping], float]) -> None:
        for one in results:
            labels = {"scanned": one["server"], "address": one["address"]}
            found[metrics.labelled(name, **labels)] = (value(one), about)

    def ports(name: str, about: str, which: t.Callable[[Mapping], Sequence[int]]) -> None:
        for one in results:
            for port in which(one)[:MOST_PORTS]:
                labels = {"scanned": one["server"], "address": one["address"], "port": port}
                found[metrics.labelled(name, **labels)] = (1, about)

    add("scan_seen_timestamp_seconds", "When all ports were last seen; 0 if never.", lambda one: one["seen"])
    add("scan_success", "Whether the last scan saw all ports.", lambda one: one["state"] == SEEN)
    add("scan_reachable", "Whether a declared port accepted.", lambda one: one["state"] != UNREACHABLE)
    add("scan_unexpected_ports", "Open ports that are not declared.", lambda one: len(one["unexpected"]))
    ports("scan_unexpected_port", "Those, twenty of an address at most.", lambda one: one["unexpected"])
    ports("scan_missing_port", "Declared ports that do not accept.", lambda one: one["missing"])
    return found
