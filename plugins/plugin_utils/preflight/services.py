# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of the services."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, address_of
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import field

#: Our own bridge, whose network may be replaced.
BRIDGE = "openmates0"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_networks(run: Preflight) -> Iterator[str]:
    for name in ("openmates_subnet", "openmates_subnet_ipv6"):
        if not run.get(name):
            continue
        try:
            subnet = ipaddress.ip_network(str(run.get(name)))
        except ValueError as error:
            example = "172.30.0.0/24" if name == "openmates_subnet" else "fd30:6f70:656e::/64"
            yield run.problem(name, str(error), f"Write it as {example}")
            continue
        if conflict := _conflict(subnet, run.facts) or _docker_conflict(subnet, run):
            yield run.problem(
                name,
                f"{subnet} {conflict}",
                "Choose a private range that the host's network does not use, e.g. 172.31.0.0/24, and move "
                "openmates_gateway, openmates_dynamic_range and the addresses in openmates_services with it",
            )


def _conflict(subnet: Network, facts: Mapping) -> str:
    """What of the host is in the same range, or an empty string."""
    default = facts.get("default_ipv4") or {}
    for text in (default.get("address"), default.get("gateway")):
        address = address_of(text or "")
        if address is not None and address.version == subnet.version and address in subnet:
            return f"contains {address}, which the host's own network uses"
    for interface, network in _networks(facts):
        if interface != BRIDGE and network.version == subnet.version and network.overlaps(subnet):
            return f"overlaps {network}, the network of the host's interface {interface}"
    return ""


def _docker_conflict(subnet: Network, run: Preflight) -> str:
    """Docker refuses a network that overlaps another of its own, one without an interface on the host, too."""
    for entry in (run.host.get("docker") or {}).get("subnets") or []:
        other = ipaddress.ip_network(entry["subnet"])
        if other.version == subnet.version and other.overlaps(subnet):
            return f"overlaps {other}, the subnet of the Docker network {entry['network']}"
    return ""


def check_addresses(run: Preflight) -> Iterator[str]:
    """The gateway, the dynamic range and the fixed addresses lie in the subnet, and none in another's place."""
    try:
        subnet = ipaddress.ip_network(str(run.get("openmates_subnet") or ""))
    except ValueError:
        return  # reported by check_networks
    taken: dict[ipaddress.IPv4Address | ipaddress.IPv6Address, str] = {}
    for name, text in _addresses(run):
        address = address_of(text)
        if address is None or address not in subnet:
            yield run.problem(
                name, f"{text!r} is not an address of openmates_subnet, {subnet}", "Move it together with the subnet"
            )
        elif address in taken:
            yield run.problem(name, f"{address} is the address of {taken[address]} already", "Choose another one")
        else:
            taken[address] = name
    yield from _check_range(run, subnet, taken)


def _addresses(run: Preflight) -> Iterator[tuple[str, str]]:
    if gateway := run.get("openmates_gateway"):
        yield "openmates_gateway", str(gateway)
    for service, fields in run.services.items():
        if address := fields.get("address"):
            yield field(service, "address"), str(address)


def _check_range(run: Preflight, subnet: Network, taken: Mapping) -> Iterator[str]:
    name, text = "openmates_dynamic_range", str(run.get("openmates_dynamic_range") or "")
    try:
        dynamic = ipaddress.ip_network(text) if text else None
    except ValueError as error:
        yield run.problem(name, str(error), "Write it as 172.30.0.128/25")
        return
    if dynamic and not (dynamic.version == subnet.version and dynamic.subnet_of(subnet)):
        yield run.problem(name, f"{dynamic} is not a part of openmates_subnet, {subnet}", "Move it with the subnet")
    elif dynamic and (inside := [owner for address, owner in taken.items() if address in dynamic]):
        yield run.problem(
            name,
            f"{dynamic} contains the address of {', '.join(inside)}, which Docker could give to another container",
            "Choose a range without fixed addresses",
        )


def _networks(facts: Mapping) -> Iterator[tuple[str, Network]]:
    """The interfaces with their networks."""
    for interface in facts.get("interfaces") or []:
        entry = facts.get(interface.replace("-", "_")) or {}
        for address in [entry.get("ipv4"), *(entry.get("ipv4_secondaries") or []), *(entry.get("ipv6") or [])]:
            length = (address or {}).get("prefix") or (address or {}).get("netmask")
            if length:
                yield interface, ipaddress.ip_network(f"{address['address']}/{length}", strict=False)


CHECKS = (check_networks, check_addresses)
