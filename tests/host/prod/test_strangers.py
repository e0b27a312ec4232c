"""Malicious requests to production's public port get no answer, or a harmless one."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from web import ask, secure

from lab import ROOT

HEADERS = {
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Server": None,
}
CLAIMS = {  # headers that claim another client address, and their values
    "X-Forwarded-For": "192.0.2.77",
    "X-Forwarded-Host": "evil.example.test",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "19277",
    "X-Real-IP": "192.0.2.77",
    "X-Client-IP": "192.0.2.77",
    "X-Cluster-Client-IP": "192.0.2.77",
    "X-Original-URL": "/metrics?19277",
    "True-Client-IP": "192.0.2.77",
    "CF-Connecting-IP": "192.0.2.77",
    "Fastly-Client-IP": "192.0.2.77",
    "Forwarded": "for=192.0.2.77",
    "Proxy": "http://192.0.2.77",
}
LIMIT = 100_000_000


@pytest.mark.parametrize(("path", "status"), [("/v1/health", 200), ("/metrics", 404), ("/nowhere", 404)])
def test_every_answer_protects_who_reads_it(server, path, status):
    answer = ask(server, "GET", path)
    assert answer.status == status
    assert {name: answer.getheader(name) for name in HEADERS} == HEADERS


def test_a_clients_address_headers_do_not_reach_the_api(server):
    answer = ask(server, "GET", "/whoami", headers=CLAIMS)
    seen = json.loads(answer.read())
    assert seen["client"] == "198.51.100.1"
    forwarded = {name: value for name, value in seen["headers"].items() if name.startswith("x-forwarded")}
    assert forwarded == {
        "x-forwarded-for": "198.51.100.1",
        "x-forwarded-host": server.domain,
        "x-forwarded-proto": "https",
    }
    assert not set(map(str.lower, CLAIMS)) & (set(seen["headers"]) - set(forwarded))


@pytest.mark.parametrize(
    ("claimed", "client"),
    [("203.0.113.9", "203.0.113.9"), ("192.0.2.77, 203.0.113.9", "203.0.113.9"), ("", "127.0.0.1")],
)
def test_of_a_trusted_proxy_the_last_address_reaches_the_api(server, claimed, client):
    """As openmates_trusted_proxies of the lab's inventory has it; what the client claimed before it is dropped."""
    header = f"-H 'X-Forwarded-For: {claimed}' -H 'X-Forwarded-Host: evil.example.test'" if claimed else ""
    answer = server.run(
        f"curl -sk -m 10 --resolve {server.domain}:443:127.0.0.1 {header} https://{server.domain}/whoami"
    )
    seen = json.loads(answer)
    assert (seen["client"], seen["headers"]["x-forwarded-for"]) == (client, client)
    assert (seen["headers"]["x-forwarded-host"], seen["headers"]["x-forwarded-proto"]) == (server.domain, "https")


@pytest.mark.parametrize(
    "name", [None, "cms.prod1.example.test", "grafana.prod1.example.test", "prod1.example.test", "198.51.100.1"]
)
def test_there_is_no_certificate_for_other_names_nor_for_none(server, name):
    with pytest.raises(ssl.SSLError):
        secure(server, name, verify=False)


@pytest.mark.parametrize("name", ["other.example.test", "127.0.0.1", "", "cms:8055"])
def test_a_request_for_another_host_is_not_answered(server, name):
    with secure(server, server.domain) as connection:
        connection.sendall(f"GET /v1/health HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        answer = connection.recv(1000)
    assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]  # an empty one is not HTTP


@pytest.mark.parametrize("name", ["other.example.test", "198.51.100.1"])
def test_plain_http_for_another_host_is_not_answered(server, name):
    for address in server.addresses:
        with socket.create_connection((address, 80), 10) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert connection.recv(1000) == b""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "taken"), [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True)])
def test_old_versions_of_tls_are_refused(server, version, taken):
    context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection((server.addresses[0], 443), 10) as connection:
        try:
            context.wrap_socket(connection, server_hostname=server.domain).close()
        except ssl.SSLError as error:
            assert not taken, error
            assert "PROTOCOL_VERSION" in error.reason
        else:
            assert taken


def chunks(size: int) -> Iterator[bytes]:
    piece = bytes(1_000_000)
    yield from (piece for _ in range(size // len(piece)))


def test_a_request_that_is_announced_as_too_large_is_refused_before_it_is_sent(server):
    client = http.client.HTTPSConnection(server.domain, timeout=60)
    client.sock = secure(server, server.domain)
    client.putrequest("POST", "/received")
    client.putheader("Content-Length", str(LIMIT + 1))
    client.endheaders()
    assert client.getresponse().status == 413


def test_a_request_that_turns_out_to_be_too_large_is_refused(server):
    client = http.client.HTTPSConnection(server.domain, timeout=60)
    client.sock = secure(server, server.domain)
    with contextlib.suppress(OSError):  # the server answers and closes the connection
        client.request("POST", "/received", body=chunks(LIMIT + 2_000_000), encode_chunked=True)
    assert client.getresponse().status == 413


def test_a_request_just_below_the_limit_arrives(server):
    answer = ask(server, "POST", "/received", body=chunks(LIMIT), encode_chunked=True)
    assert (answer.status, json.loads(answer.read())) == (200, {"bytes": LIMIT})


def test_a_header_without_end_is_refused(server):
    assert ask(server, "GET", "/v1/health", headers={"X-Long": "x" * 30_000}).status == 431


def test_a_client_that_dawdles_over_its_header_is_cut_off(server):
    with secure(server, server.domain) as connection:
        connection.settimeout(20)
        connection.sendall(b"GET /v1/health HTTP/1.1\r\n")
        begun = time.monotonic()
        assert connection.recv(1000) == b""
    assert 5 < time.monotonic() - begun < 20
