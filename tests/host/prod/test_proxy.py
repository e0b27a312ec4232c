"""Production's front door: Caddy with a certificate, before the api and nothing else."""

from __future__ import annotations

import http.client

import pytest
from web import ask


def test_the_api_answers_over_https_on_both_families(server):
    for address in server.addresses:
        assert ask(server, "GET", "/health", address).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/ready"])
def test_what_only_the_operator_should_see_is_hidden(server, path):
    assert ask(server, "GET", path).status == 404


def test_plain_http_leads_to_https(server):
    client = http.client.HTTPConnection(server.addresses[0], timeout=10)
    client.request("GET", "/health", headers={"Host": server.domain})
    answer = client.getresponse()
    assert (answer.status, answer.getheader("Location")) == (308, f"https://{server.domain}/health")
