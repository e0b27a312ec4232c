"""The modules connect to Vault on the host without a proxy, regardless of the host's environment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import version


class Handler(BaseHTTPRequestHandler):
    """A Vault that is active."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        status, content = self.server.health
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A Vault, in an environment that names a proxy on which nothing listens."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.health = (200, b"")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_a_proxy_takes_no_part(server: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with pytest.raises(requests.exceptions.ProxyError):
        requests.head(url, timeout=5)
    assert vault.state_of(vault.connect(url)) == vault.ACTIVE


@pytest.mark.parametrize(
    ("status", "content", "reported"),
    [
        (200, b'{"version": "2.7.2", "sealed": false}', "OpenBao 2.7.2"),
        (503, b'{"version": "1.21.0", "sealed": true, "enterprise": false}', "HashiCorp Vault 1.21.0"),
        (501, b'{"version": "1.21.0", "initialized": false, "enterprise": true}', "HashiCorp Vault 1.21.0"),
        (200, b"<html>", ""),
        (200, b"[]", ""),
        (404, b"{}", ""),
    ],
)
def test_a_server_answers_which_engine_it_is(
    server: ThreadingHTTPServer, status: int, content: bytes, reported: str
) -> None:
    server.health = (status, content)
    assert version.ask(*server.server_address) == reported


def test_a_server_that_does_not_answer_has_no_version(server: ThreadingHTTPServer) -> None:
    address, port = server.server_address
    server.shutdown()
    server.server_close()
    assert version.ask(address, port) == ""
