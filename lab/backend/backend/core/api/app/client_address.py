"""Finds out who really sent a request that came through proxies."""

import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Nobody runs longer chains; a longer header is an attempt to make us work.
MAXIMUM_HOPS = 20


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read comma-separated addresses and CIDRs.

    Raises ValueError naming the entry if one is no address, has host bits set, or covers every address.
    """
    networks = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        network = ipaddress.ip_network(entry)
        if network.prefixlen == 0:
            raise ValueError(f"{entry} would trust everybody")
        networks.append(network)
    return tuple(networks)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Iterable[Network]) -> str:
    """Return the address of the client.

    ``peer`` is the other end of the connection, ``forwarded_for`` the X-Forwarded-For headers in the order received.
    Every proxy appends the address it saw, so only what a trusted proxy appended counts: read from the right, the
    first address that is no trusted proxy is the client. Whatever stands left of it anyone could have written.
    """
    networks = tuple(trusted)
    current = _parse(peer)
    if current is None or not _within(current, networks):
        return str(current) if current else peer
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops[-MAXIMUM_HOPS:]):
        address = _parse(hop)
        if address is None:
            break
        current = address
        if not _within(current, networks):
            break
    return str(current)


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d.
    return getattr(address, "ipv4_mapped", None) or address


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
