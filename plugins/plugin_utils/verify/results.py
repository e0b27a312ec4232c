# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found out about a live server: the dictionary that the filter verify_report documents, read."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

FAMILIES = {4: "IPv4", 6: "IPv6"}
PUBLISHED = re.compile(r"(?P<address>\S*):(?P<first>\d+)(-(?P<last>\d+))?->\S+/tcp")
#: With fewer attempts at closed ports than this, lost packets and strangers' attempts decide what was counted.
MIN_ATTEMPTS = 100
#: How compose_info begins when Docker is installed and fails; its other reasons are what a new server lacks.
ENGINE_BROKEN = "Docker does not answer"


def family_of(address: str) -> str:
    return FAMILIES[ipaddress.ip_address(str(address).partition("%")[0]).version]


def selected_families(seen: Mapping) -> list[str]:
    """The families to probe, as the report writes them."""
    wanted = seen.get("families") or ["ipv4", "ipv6"]
    return [name for name in FAMILIES.values() if name.lower() in {str(family).lower() for family in wanted}]


def expected_ports(seen: Mapping) -> list[int]:
    return sorted({int(port) for port in seen.get("expected_ports") or []})


def restricted_ports(seen: Mapping) -> list[int]:
    """Expected ports that only some networks may reach: from here they may be open or closed."""
    return [int(port) for port in seen.get("restricted_ports") or []]


def probed_addresses(seen: Mapping) -> dict[str, Mapping]:
    """The probe's results by address, for the addresses whose ports it could see."""
    found = (seen.get("probe") or {}).get("addresses") or {}
    return {
        address: entry for address, entry in found.items() if entry.get("reachable") and not entry.get("intercepted")
    }


def name_of_port(seen: Mapping, port: int) -> str:
    return (seen.get("port_names") or {}).get(str(port), "")


def unexpected_ports(seen: Mapping) -> dict[int, list[str]]:
    """Ports that are open but must be closed, each with the addresses where it is open."""
    return _ports_where(seen, lambda port, entry: port not in expected_ports(seen) and port in entry["open"])


def missing_ports(seen: Mapping) -> dict[int, list[str]]:
    """Ports that are closed but must be open, each with the addresses where it is closed."""
    required = set(expected_ports(seen)) - set(restricted_ports(seen))
    return _ports_where(seen, lambda port, entry: port in required and port not in entry["open"])


def _ports_where(seen: Mapping, condition: Any) -> dict[int, list[str]]:
    probed = probed_addresses(seen)
    ports = sorted({port for entry in probed.values() for port in entry["open"]} | set(expected_ports(seen)))
    found = {port: [address for address, entry in probed.items() if condition(port, entry)] for port in ports}
    return {port: addresses for port, addresses in found.items() if addresses}


def unseen_attempts(seen: Mapping) -> dict[str, tuple[int, int]]:
    """For each address whose closed ports did something in between close: attempts that arrived, and those made.

    The server's firewall counts the attempts that it drops; it refuses none.
    """
    before, after = seen.get("dropped") or ({}, {})
    found: dict[str, tuple[int, int]] = {}
    for family, counter in (("IPv4", "closed_ipv4"), ("IPv6", "closed_ipv6")):
        entries = {address: e for address, e in probed_addresses(seen).items() if family_of(address) == family}
        made = sum(entry["silent"] + entry["closed"] for entry in entries.values())
        if made < MIN_ATTEMPTS or counter not in before or counter not in after:
            continue
        arrived = after[counter] - before[counter]
        if 0 <= arrived < made / 2:  # less than zero: the firewall was loaded again
            found |= dict.fromkeys(entries, (arrived, made))
    return found


def who_listens(seen: Mapping, port: int) -> str:
    """The process and the container behind a host port."""
    processes = [entry for entry in seen.get("listeners") or [] if int(entry.get("port", 0)) == port]
    # A listener on loopback counts only if there is no other.
    processes = [entry for entry in processes if not is_loopback(entry.get("address", ""))] or processes
    words = [f"process {e.get('program') or '?'} (pid {e.get('pid') or '?'}) on {e.get('address')}" for e in processes]
    for line in seen.get("containers") or []:
        try:
            container = json.loads(line)
        except ValueError:
            continue
        published = [
            match["address"]
            for match in PUBLISHED.finditer(container.get("Ports", ""))
            if int(match["first"]) <= port <= int(match["last"] or match["first"])
        ]
        if published:
            words.append(f"container {container.get('Names')} publishes it on {', '.join(published)}")
    return "; ".join(dict.fromkeys(words))


def undeclared_listeners(seen: Mapping) -> list[int]:
    """Ports that are not declared, and that others could connect to but for the firewall."""
    tolerated = {*expected_ports(seen), *map(int, seen.get("other_listeners") or [])}
    internal = set(seen.get("internal_listeners") or [])
    found = {
        entry["port"]
        for entry in seen.get("listeners") or []
        if not is_loopback(entry["address"]) and f"{entry['address']}:{entry['port']}" not in internal
    }
    return sorted(found - tolerated)


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(str(address).partition("%")[0]).is_loopback
    except ValueError:
        return False


class Readiness:
    """The result of openmates-ready, as returned by the command task. Its output may be invalid."""

    def __init__(self, seen: Mapping) -> None:
        result = seen.get("ready") or {}
        self.wanted = bool(result) and not result.get("skipped")
        self.parts: list[tuple[str, bool, str]] = []
        self.maintenance: Mapping | None = None  # the flag with owner, by, reason and since; None if clients are served
        try:
            answer = json.loads(result.get("stdout") or "")
            self.parts = [(str(p["name"]), bool(p["ok"]), str(p["detail"])) for p in answer["parts"]]
            self.maintenance = answer.get("maintenance")
        except (ValueError, KeyError, TypeError):
            pass
        self.failing = [(name, detail) for name, ok, detail in self.parts if not ok]
        self.ok = bool(self.parts) and not self.failing and result.get("rc", 0) == 0
        self.error = str(result.get("stderr") or result.get("msg") or "it printed no result").strip().rstrip(".")

    def by_detail(self) -> dict[str, list[str]]:
        """The names of the failing parts by their detail."""
        found: dict[str, list[str]] = {}
        for name, detail in self.failing:
            found.setdefault(detail, []).append(name)
        return found


def service_trouble(seen: Mapping, name: str) -> str:
    """The problem of a service, or an empty string."""
    service = (seen.get("services") or {}).get(name) or {"state": "missing"}
    state, health = service.get("state"), service.get("health") or ""
    if state == "missing":
        return "it has no container"
    if service.get("one_shot"):
        if state != "exited":
            return f"it runs once and is {state}, not exited"
        return "" if service.get("exit_code") == 0 else f"it ended with exit code {service.get('exit_code')}"
    if state != "running":
        return f"it is {state}, with exit code {service.get('exit_code')}"
    return "" if health in ("", "healthy") else f"it is {health}"


def not_provisioned(seen: Mapping) -> bool:
    """Whether a dry run saw a server on which no service has a container: it is new, and nothing is wrong with that."""
    services = (seen.get("services") or {}).values()
    broken = str(seen.get("services_problem") or "").startswith(ENGINE_BROKEN)
    return bool(seen.get("dry_run")) and not broken and all(service.get("state") == "missing" for service in services)


def to_be_made(seen: Mapping, name: str) -> bool:
    """Whether the run that a dry run describes would make this service's container."""
    state = ((seen.get("services") or {}).get(name) or {}).get("state", "missing")
    return bool(seen.get("dry_run")) and state == "missing"


def service_names(seen: Mapping) -> list[str]:
    return list(dict.fromkeys([*(seen.get("expected_services") or []), *(seen.get("services") or {})]))


def was_asked(seen: Mapping) -> bool:
    """Whether the host's listeners were read."""
    return bool(seen.get("listeners"))


def web_answers(seen: Mapping) -> list[Mapping]:
    return list((seen.get("probe") or {}).get("web") or [])


def host_has_to_be_asked(seen: Mapping) -> bool:
    """Whether to read the containers' ports: only if a port is open or closed against the expectation."""
    return bool(unexpected_ports(seen) or missing_ports(seen) or undeclared_listeners(seen))
