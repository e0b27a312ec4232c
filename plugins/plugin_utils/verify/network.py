# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The problems of what a scan of a live server saw of its addresses and ports, each with its remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import (
    family_of,
    missing_ports,
    name_of_port,
    probed_addresses,
    selected_families,
    undeclared_listeners,
    unexpected_ports,
    unseen_attempts,
    was_asked,
    who_listens,
)


def problems_of_addresses(seen: Mapping) -> Iterator[str]:
    """What could not be seen, and why."""
    selected = selected_families(seen)
    addresses = list(seen.get("addresses") or [])
    found = (seen.get("probe") or {}).get("addresses") or {}
    unseen = unseen_attempts(seen)
    for address in addresses:
        entry = found.get(address)
        if family_of(address) not in selected or entry is None:
            continue
        if not entry["reachable"]:
            family = family_of(address)
            other = ", ".join(name.lower() for name in selected if name != family)
            yield (
                f"{family} {address} could not be probed from here: {entry['reason']}. Run verify from a machine with "
                f"{family}, or set openmates_probe_families: [{other}] to leave it unverified"
            )
        elif entry.get("intercepted"):
            yield (
                f"The ports of {address} could not be seen from here: {entry['reason']}, such as a transparent proxy, "
                "a VPN or security software. Run verify from another network"
            )
        elif not entry["reliable"]:
            yield f"The scan of {address} is not reliable: {entry['reason']}"
        elif not entry["answered"]:
            yield (
                f"Nothing answered at {address}: the host is down, or a network in between drops all packets"
                f"{_only_family_that_is_silent(seen, address)}"
            )
        elif address in unseen and not seen.get("upstream_firewall"):
            arrived, made = unseen[address]
            yield (
                f"The closed ports of {address} could not be proven from here: {arrived} of {made} attempts reached "
                "the server, so a firewall in between dropped the rest, such as a VPN's or a company's. Run verify "
                "from another network, or set openmates_upstream_firewall: true if it is one in front of the server, "
                "such as the provider's"
            )
    if seen.get("require_ipv6") and "IPv6" not in map(family_of, addresses):
        yield "The host has no IPv6 address, but openmates_require_ipv6 is set"
    if not any(family_of(address) in selected for address in addresses):
        yield "No address was probed: set openmates_public_addresses to the server's public addresses"


def _only_family_that_is_silent(seen: Mapping, address: str) -> str:
    """A remedy if the server answers by the other family."""
    family = family_of(address)
    others = {family_of(other) for other, entry in probed_addresses(seen).items() if entry["answered"]} - {family}
    if not others:
        return ""
    families = ", ".join(name.lower() for name in others)
    return (
        f". Over {next(iter(others))} it answers: if this network lets no {family} through, run verify from another "
        f"one, or set openmates_probe_families: [{families}] to leave {family} unverified"
    )


def _listed(ports: Sequence[int | str], most: int = 12) -> str:
    """Ports for a sentence, not more than a line of them."""
    rest = f" and {len(ports) - most} more" if len(ports) > most else ""
    return ", ".join(map(str, ports[:most])) + rest


def _ports(seen: Mapping, ports: Sequence[int]) -> str:
    """Port 22 (ssh), or Ports 22 (ssh), 80."""
    names = [f"{port} ({name})" if (name := name_of_port(seen, port)) else str(port) for port in ports]
    return f"Port{'s' if len(ports) > 1 else ''} {_listed(names)}"


def _by_addresses(ports: Mapping[int, list[str]], chosen: Collection[int]) -> Iterator[tuple[list[int], str]]:
    """The chosen ports that have the same addresses, together, with those."""
    groups: dict[str, list[int]] = {}
    for port in chosen:
        groups.setdefault(", ".join(ports[port]), []).append(port)
    for addresses, together in groups.items():
        yield together, addresses


def problems_of_ports(seen: Mapping) -> Iterator[str]:
    """Ports that are open but must be closed, or the other way round."""
    unexpected = unexpected_ports(seen)
    listeners = {port: who_listens(seen, port) for port in unexpected}
    for port, addresses in unexpected.items():
        who = listeners[port]
        if not who:
            continue
        yield (
            f"Port {port} is open to the internet at {', '.join(addresses)} and must be closed: {who}. "
            "Stop it, or bind it to 127.0.0.1, and check why the firewall accepted it"
        )
    why = (
        ", but no listener was found on the host: something in between answers, such as a proxy, a VPN or security "
        "software, or the host passes them on (`sudo nft list ruleset`). Run verify from another network"
        if was_asked(seen)
        else ". verify.yml, which logs in, names the program that listens"
    )
    for ports, where in _by_addresses(unexpected, [port for port in unexpected if not listeners[port]]):
        accept = "accepts" if len(ports) == 1 else "accept"
        yield f"{_ports(seen, ports)} must be closed and {accept} connections at {where}{why}"
    answered = {address for address, entry in probed_addresses(seen).items() if entry["answered"]}
    missing = {  # of an address that never answered the address is reported
        port: where
        for port, addresses in missing_ports(seen).items()
        if (where := [address for address in addresses if address in answered])
    }
    reachable = [port for port in missing if was_asked(seen) and who_listens(seen, port)]
    for ports, where in _by_addresses(missing, reachable):
        who = f"{who_listens(seen, ports[0])}, " if len(ports) == 1 else "the host listens there, "
        yield (
            f"{_ports(seen, ports)} must be open and {'is' if len(ports) == 1 else 'are'} closed at {where}: {who}so "
            "check the firewalls in between: the provider's, and that of this network, such as a VPN's or a company's"
        )
    why = "nothing listens there on the host" if was_asked(seen) else "no answer"
    for port in sorted(missing.keys() - set(reachable)):
        yield f"{_ports(seen, [port])} must be open and is closed at {', '.join(missing[port])}: {why}"


def problems_of_listeners(seen: Mapping) -> Iterator[str]:
    """Programs that the world could connect to if the firewall failed: it is the last line, not the only one."""
    reported = unexpected_ports(seen)
    for port in [port for port in undeclared_listeners(seen) if port not in reported]:
        yield (
            f"Port {port} is not declared, and only the firewall keeps it closed: {who_listens(seen, port)}. Stop it, "
            "bind it to 127.0.0.1, or tolerate it with openmates_other_listeners"
        )
