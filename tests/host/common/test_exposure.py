"""What the internet can reach is what the guidelines' tables say, seen in four layers."""

from __future__ import annotations

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import OPEN_FROM_OUTSIDE, PUBLISHED, SERVICE_PORTS, STACK


def open_ports(address: str, ports: range) -> set[int]:
    """The TCP ports that accept a connection. A plain loop on purpose: it shares nothing with what it checks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = set()
    for port in ports:
        with socket.socket(family) as connection:
            connection.settimeout(2)
            if connection.connect_ex((address, port)) == 0:
                found.add(port)
    return found


def scan(address: str) -> set[int]:
    """All 65,535 TCP ports of the address, from outside."""
    parts = [range(start, min(start + 8192, 65536)) for start in range(1, 65536, 8192)]
    with ThreadPoolExecutor(len(parts)) as pool:
        return set().union(*pool.map(lambda part: open_ports(address, part), parts))


def test_compose_publishes_what_the_guidelines_say(server):
    project = json.loads(server.run(f"cd {STACK} && docker compose config --format json"))
    published: dict[str, tuple] = {}
    for name, service in project["services"].items():
        for port in service.get("ports", []):
            first, _, last = port["published"].partition("-")
            ports = set(range(int(first), int(last or first) + 1))
            addresses, known = published.get(name, (set(), set()))
            published[name] = (addresses | {port.get("host_ip")}, known | ports)
    assert published == PUBLISHED[server.environment]


def test_only_declared_ports_listen_beyond_loopback(server):
    listeners = [line.split()[3] for line in server.run("ss -Hltn").splitlines()]
    outward = {listener.rsplit(":", 1)[1] for listener in listeners if not listener.startswith(("127.", "[::1]"))}
    assert {int(port) for port in outward} == OPEN_FROM_OUTSIDE[server.environment]


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_outside_scan_finds_exactly_the_declared_ports(server, family):
    assert scan(server.addresses[family == "IPv6"]) == OPEN_FROM_OUTSIDE[server.environment]


def test_internal_services_cannot_be_reached_by_their_container_addresses(server):
    """A neighbour that routes the containers' network through the host gets no answer."""
    containers = server.containers()
    neighbour = ["docker", "run", "--rm", "--network", "openmates-lab", "--cap-add", "NET_ADMIN", "--entrypoint", "sh"]
    for service in sorted(set(SERVICE_PORTS) - set(PUBLISHED[server.environment])):
        address = containers[service]["NetworkSettings"]["Networks"]["openmates"]["IPAddress"]
        route = f"ip route add {address} via {server.addresses[0]}"
        connect = (
            f"import socket,sys; sys.exit(socket.socket().connect_ex(('{address}', {SERVICE_PORTS[service]})) == 0)"
        )
        script = f'{route} && exec timeout 3 python3 -c "{connect}"'
        code = subprocess.run([*neighbour, "openmates-lab/host", "-c", script], check=False).returncode
        assert code in (0, 124), f"{service} answered at {address} (exit code {code})"
