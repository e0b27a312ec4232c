"""Production's public port: Caddy with a certificate, in front of the api only."""

from __future__ import annotations

import http.client
import re

import pytest
from web import ask


def test_the_api_answers_over_https_on_both_families(server):
    for address in server.addresses:
        assert ask(server, "GET", "/v1/health", address).status == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "/internal", "/internal/", "/internal/validate-token", "/internal/billing/charge"]
)
def test_what_only_the_operator_should_see_is_hidden(server, path):
    """By Caddy, whose answer is empty: the api's own 404 is JSON."""
    for method in ("GET", "POST"):
        answer = ask(server, method, path)
        assert (answer.status, answer.read()) == (404, b"")


def test_caddys_health_checks_are_not_counted_with_anything_else(server):
    """An api that answers 429 to them would be taken out of service for all clients."""
    configuration = server.run("cat /etc/caddy/Caddyfile")
    assert re.search(
        r"health_uri /v1/health\n(.*\n)*?\s+health_headers {\n\s+X-Forwarded-For 192\.0\.2\.1\n", configuration
    )


def test_plain_http_leads_to_https(server):
    client = http.client.HTTPConnection(server.addresses[0], timeout=10)
    client.request("GET", "/v1/health", headers={"Host": server.domain})
    answer = client.getresponse()
    assert (answer.status, answer.getheader("Location")) == (308, f"https://{server.domain}/v1/health")
