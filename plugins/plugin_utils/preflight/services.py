# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of the services."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, address_of

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
        if conflict := _conflict(subnet, run.facts):
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


def _networks(facts: Mapping) -> Iterator[tuple[str, Network]]:
    """The interfaces with their networks."""
    for interface in facts.get("interfaces") or []:
        entry = facts.get(interface.replace("-", "_")) or {}
        for address in [entry.get("ipv4"), *(entry.get("ipv4_secondaries") or []), *(entry.get("ipv6") or [])]:
            length = (address or {}).get("prefix") or (address or {}).get("netmask")
            if length:
                yield interface, ipaddress.ip_network(f"{address['address']}/{length}", strict=False)


CHECKS = (check_networks,)
