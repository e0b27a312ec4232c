"""The exposed ports match the guidelines' tables, in four layers."""

from __future__ import annotations

import json

from outside import scan

from lab import FOR_PROMETHEUS, OPEN_FROM_OUTSIDE, PUBLISHED, SERVICE_PORTS, STACK


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
    outward = {
        listener.rsplit(":", 1)[1]
        for listener in set(listeners) - set(FOR_PROMETHEUS[server.environment].values())
        if not listener.startswith(("127.", "[::1]"))
    }
    assert {int(port) for port in outward} == OPEN_FROM_OUTSIDE[server.environment]


def test_outside_scan_finds_exactly_the_declared_ports(server):
    assert scan(server) == dict.fromkeys(server.addresses, OPEN_FROM_OUTSIDE[server.environment])


def test_internal_services_cannot_be_reached_by_their_container_addresses(server, neighbour):
    """A neighbour that routes the containers' network through the host gets no answer."""
    containers, targets = server.containers(), []
    for service in sorted(set(SERVICE_PORTS) - set(PUBLISHED[server.environment])):
        address = containers[service]["NetworkSettings"]["Networks"]["openmates"]["IPAddress"]
        neighbour.run(f"ip route replace {address} via {server.addresses[0]}")
        targets.append(f"tcp {address} {SERVICE_PORTS[service]}")
    assert neighbour.reaches(f"tcp {server.addresses[0]} 22", *targets) == {f"tcp {server.addresses[0]} 22"}
