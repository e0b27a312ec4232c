"""Answers of a web server, and problems of its certificate."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import web_request
from authority import NOW, Authority

NAME = "api.openmates.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Test CA")


class Handler(BaseHTTPRequestHandler):
    """Answers like an api behind a proxy, with the Host header that it received."""

    failures = 0

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(308)
            self.send_header("Location", f"https://{NAME}/moved")
        elif self.path == "/late" and Handler.failures > 0:
            Handler.failures -= 1
            self.send_response(502)
        else:
            self.send_response(200 if (self.headers["Host"] or "").startswith(NAME) else 421)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""


@contextlib.contextmanager
def web_server(certificate: Path | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def request(port: int, **more: object) -> dict:
    base = {"name": NAME, "scheme": "https", "port": port, "path": "/health", "ca_file": None}
    return base | {"expect_status": [200], "expect_redirect": None} | more


def test_a_valid_certificate_is_described(authority: Authority) -> None:
    with web_server(authority.issue(NAME, 60)) as port:
        answer = web_request.ask("127.0.0.1", request(port, ca_file=str(authority.file)), 5.0)
    assert (answer["ok"], answer["status"], answer["error"]) == (True, 200, "")
    assert (answer["issuer"], answer["days_left"]) == ("Test CA", 60)
    assert answer["not_after"].startswith(str((NOW + datetime.timedelta(days=60, hours=1)).date()))


@pytest.mark.parametrize(
    ("name", "days", "trusted", "words"),
    [
        (NAME, -1, True, "expired"),
        ("other.openmates.test", 60, True, "mismatch"),
        (NAME, 60, False, "certificate"),
    ],
    ids=["expired", "wrong name", "unknown authority"],
)
def test_a_bad_certificate_is_refused_with_its_reason(
    authority: Authority, tmp_path: Path, name: str, days: int, trusted: bool, words: str
) -> None:
    trust = authority if trusted else Authority(tmp_path, "Other CA")
    with web_server(authority.issue(name, days)) as port:
        answer = web_request.ask("127.0.0.1", request(port, ca_file=str(trust.file)), 5.0)
    assert (answer["ok"], answer["status"]) == (False, 0)
    assert "the certificate is not valid" in answer["error"]
    assert words in answer["error"]
    assert (answer["issuer"], answer["days_left"]) == ("Test CA", days)


def test_a_redirect_has_to_lead_where_it_should() -> None:
    with web_server() as port:
        plain = request(port, scheme="http", path="/moved", expect_status=[308])
        right = web_request.ask("127.0.0.1", plain | {"expect_redirect": f"https://{NAME}/"}, 5.0)
        wrong = web_request.ask("127.0.0.1", plain | {"expect_redirect": "https://elsewhere.test"}, 5.0)
    assert right["ok"] and right["location"] == f"https://{NAME}/moved"
    assert not wrong["ok"] and "instead of https://elsewhere.test" in wrong["error"]


def test_a_wrong_status_is_named() -> None:
    with web_server() as port:
        answer = web_request.ask("127.0.0.1", request(port, scheme="http", expect_status=[204]), 5.0)
    assert "status 200 instead of 204" in answer["error"]


def test_a_request_is_repeated_until_it_is_answered_as_expected() -> None:
    Handler.failures = 1
    with web_server() as port:
        late = request(port, scheme="http", path="/late")
        answer = web_request.ask_until("127.0.0.1", late, 5.0, 10.0)
    assert answer["ok"]


def test_a_server_that_never_answers_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = web_request.ask("127.0.0.1", request(port), 0.2)
    assert not answer["ok"] and answer["error"]


def test_a_port_without_a_listener_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = web_request.ask("127.0.0.1", request(taken.getsockname()[1]), 2.0)
    assert "refused" in answer["error"]
