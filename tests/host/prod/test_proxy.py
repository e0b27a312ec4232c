"""Production's front door: Caddy with a certificate, before the api and nothing else."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from lab import ROOT


def get(server, path: str, name: str, address: str) -> tuple[int, bytes]:
    """GET over HTTPS at that address, asking for `name` and verifying its certificate."""
    context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
    with (
        socket.create_connection((address, 443), 10) as connection,
        context.wrap_socket(connection, server_hostname=name) as secure,
    ):
        client = http.client.HTTPSConnection(name)
        client.sock = secure
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()


def test_the_api_answers_over_https_on_both_families(server):
    for address in server.addresses:
        assert get(server, "/health", server.domain, address)[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/ready"])
def test_what_only_the_operator_should_see_is_hidden(server, path):
    assert get(server, path, server.domain, server.addresses[0])[0] == 404


def test_plain_http_leads_to_https(server):
    client = http.client.HTTPConnection(server.addresses[0], timeout=10)
    client.request("GET", "/health", headers={"Host": server.domain})
    answer = client.getresponse()
    assert (answer.status, answer.getheader("Location")) == (308, f"https://{server.domain}/health")


@pytest.mark.parametrize("name", ["cms.prod1.openmates.test", "grafana.prod1.openmates.test", "prod1.openmates.test"])
def test_no_other_name_is_served(server, name):
    with pytest.raises(ssl.SSLError):
        get(server, "/", name, server.addresses[0])


def test_a_client_cannot_pretend_to_have_another_address(server):
    context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
    with (
        socket.create_connection((server.addresses[0], 443), 10) as connection,
        context.wrap_socket(connection, server_hostname=server.domain) as secure,
    ):
        client = http.client.HTTPSConnection(server.domain)
        client.sock = secure
        client.request("GET", "/whoami", headers={"X-Forwarded-For": "192.0.2.77"})
        seen = json.loads(client.getresponse().read())
    assert "198.51.100.1" in seen.values()
    assert "192.0.2.77" not in str(seen)
