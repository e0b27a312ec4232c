"""A Vault is on the host itself: the modules ask it and no proxy, whatever the host's environment says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from ansible_collections.openmates.server.plugins.module_utils import vault


class Handler(BaseHTTPRequestHandler):
    """A Vault that is active."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Vault's address, in an environment that sends everybody to a proxy where nobody listens."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_proxy_takes_no_part(url: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.head(url, timeout=5)
    assert vault.state_of(vault.connect(url)) == vault.ACTIVE
