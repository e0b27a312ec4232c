"""Development's ports are published on both families, and preserve the client's address."""

from __future__ import annotations

import json
import urllib.request

import pytest


@pytest.mark.parametrize(("family", "neighbour"), [("IPv4", "198.51.100.1"), ("IPv6", "2001:db8:51::1")])
def test_the_api_sees_the_true_address_of_a_client(server, family, neighbour):
    address = server.addresses[0] if family == "IPv4" else f"[{server.addresses[1]}]"
    request = urllib.request.Request(f"http://{address}:8000/whoami", headers={"X-Forwarded-For": "192.0.2.77"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["client"] == neighbour


def test_ports_are_bound_to_every_address_of_both_families(server):
    bound = {
        service: {binding["HostIp"] for ports in container["HostConfig"]["PortBindings"].values() for binding in ports}
        for service, container in server.containers().items()
        if container["HostConfig"]["PortBindings"]
    }
    assert bound == {service: {"0.0.0.0", "::"} for service in ("api", "cms", "grafana")}
