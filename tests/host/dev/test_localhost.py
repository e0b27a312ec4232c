"""A developer's machine: published services answer on localhost, and the frontends' dev servers may call the api."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

ORIGINS = ["http://localhost:5173", "http://localhost:5174"]


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers (lower-case names) of a request that uses no proxy."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=named)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


@pytest.mark.parametrize("address", ["8000/v1/health", "8055/server/ping", "3001/api/health"])
def test_the_published_services_answer_on_localhost(server, address):
    assert ask(f"http://localhost:{address}")[0] == 200


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_preflighted_request_from_a_dev_server_is_accepted(server, origin):
    status, headers = ask(
        "http://localhost:8000/v1/health",
        "OPTIONS",
        Origin=origin,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type",
    )
    assert (status, headers.get("access-control-allow-origin")) == (200, origin)
    assert headers.get("access-control-allow-credentials") == "true"


def test_a_preflighted_request_from_elsewhere_is_refused(server):
    status, headers = ask(
        "http://localhost:8000/v1/health",
        "OPTIONS",
        Origin="http://localhost:9999",
        Access_Control_Request_Method="POST",
    )
    assert status == 400 and "access-control-allow-origin" not in headers
