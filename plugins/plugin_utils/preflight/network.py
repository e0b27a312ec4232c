# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the outside: packet size, address families and name servers, for the host and for containers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, address_of, integer
from ansible_collections.openmates.server.plugins.plugin_utils.services.images import registry_hosts

#: What IPv6 needs.
SMALLEST_IPV6_MTU = 1280
NOT_PROXIED = re.compile(
    r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:\d{1,5}|/\d{1,2})?|[0-9a-fA-F:]*:[0-9a-fA-F:]*(/\d{1,3})?"
)
#: What the firewall closes to containers: the clouds' link-local services.
LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))


def check_mtu(run: Preflight) -> Iterator[str]:
    name = "openmates_mtu"
    mtu = run.get(name, 0)
    if not mtu:
        return
    interfaces = [run.facts.get(key) or {} for key in ("default_ipv4", "default_ipv6")]
    limits = [(integer(entry.get("mtu")), entry.get("interface")) for entry in interfaces if entry.get("mtu")]
    smallest = min(limits, default=(None, None), key=lambda limit: limit[0] or 0)
    if mtu < SMALLEST_IPV6_MTU:
        yield run.problem(name, f"{mtu} is too small for IPv6", "Set it to 1280 or more, or to 0 for that of the host")
    elif smallest[0] and mtu > smallest[0]:
        yield run.problem(
            name,
            f"{mtu} is larger than what the host's interface {smallest[1]} sends, {smallest[0]}",
            "Set it to at most that, or to 0",
        )


def check_families(run: Preflight) -> Iterator[str]:
    if run.get("openmates_subnet_ipv6") and not run.host.get("ipv6", True):
        yield run.problem(
            "openmates_subnet_ipv6",
            "this host's kernel has IPv6 switched off, and Docker could not create the network",
            'Set it to "", or switch IPv6 on: net.ipv6.conf.all.disable_ipv6=0',
        )
    if not _is_ipv6_only(run):
        return
    if not run.get("openmates_subnet_ipv6"):
        yield run.problem(
            "openmates_subnet_ipv6",
            "this host has no way to the internet by IPv4, and the containers would have none by IPv6",
            "Set it to fd30:6f70:656e::/64",
        )
    resolved = run.host.get("resolved") or {}
    parts = [*run.services.values(), *run.get("openmates_apps", [])]
    images = [str(part["image"]) for part in parts if part.get("image")]
    unreachable = [
        registry
        for registry in registry_hosts(images, str(run.get("openmates_registry", "")))
        if (found := resolved.get(registry)) is not None
        and not any(address.version == 6 for address in map(address_of, found) if address)
    ]
    if unreachable and not run.get("openmates_http_proxy"):
        yield run.problem(
            "openmates_registry",
            f"this host has no way to the internet by IPv4, and {', '.join(unreachable)} has no IPv6 address: images "
            "cannot be pulled",
            "Set it to a registry with IPv6 that mirrors them, or set openmates_http_proxy, or give the server IPv4",
        )


def _is_ipv6_only(run: Preflight) -> bool:
    """Whether the host has a default route for IPv6 alone, by its facts."""
    return bool((run.facts.get("default_ipv6") or {}).get("gateway")) and not (
        (run.facts.get("default_ipv4") or {}).get("gateway")
    )


def check_name_servers(run: Preflight) -> Iterator[str]:
    """Docker asks some of the host's servers from the host itself, the others from the container's network."""
    options = run.get("openmates_docker_options") or {}
    if options.get("dns") or "name_servers" not in run.host:
        return
    servers = run.host["name_servers"]
    remedy = "Set openmates_docker_options: {dns: [...]} to servers with an address of their own, e.g. the provider's"
    if not servers:
        yield run.host_problem(
            "its /etc/resolv.conf names no name server: Docker would have containers ask Google's", remedy
        )
    closed = [server for server in servers if _is_closed(server, run)]
    if servers and len(closed) == len(servers):
        yield run.host_problem(f"containers cannot reach its name server {', '.join(closed)}", remedy)


def _is_closed(server: str, run: Preflight) -> bool:
    """Whether Docker asks this server from the container's network, where it cannot be reached.

    It asks from the host: loopback addresses, those with a zone, and IPv6 where containers have none.
    """
    address = ipaddress.ip_address(server.partition("%")[0])
    ipv6 = bool(run.get("openmates_subnet_ipv6"))
    if address.is_loopback or "%" in server or (address.version == 6 and not ipv6):
        return False
    networks = [*LINK_LOCAL, *_own_networks(run)]
    return any(address.version == network.version and address in network for network in networks)


def _own_networks(run: Preflight) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for name in ("openmates_subnet", "openmates_subnet_ipv6"):
        try:
            yield ipaddress.ip_network(str(run.get(name) or ""))
        except ValueError:
            continue  # reported by check_networks, or not set


def check_proxy(run: Preflight) -> Iterator[str]:
    if run.get("openmates_http_proxy_backend", False) and not run.get("openmates_http_proxy"):
        yield run.problem(
            "openmates_http_proxy_backend", "there is no proxy to use", "Set openmates_http_proxy, or remove this"
        )
    for entry in run.get("openmates_no_proxy", []):
        if not NOT_PROXIED.fullmatch(str(entry)):
            yield run.problem(
                "openmates_no_proxy",
                f"{entry!r} is not a name, address or network",
                "Write entries such as registry.example.com, .example.com, 192.0.2.1 or 192.0.2.0/24",
            )


CHECKS = (check_mtu, check_families, check_name_servers, check_proxy)
