"""directus_login_info against a small HTTP server that answers like Directus."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.openmates.server.plugins.modules import directus_login_info

PASSWORD = secrets.token_urlsafe(20)


class Answers(BaseHTTPRequestHandler):
    """Takes one password; any other is refused in Directus's words."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken = self.path == "/auth/login" and body["password"] == PASSWORD
        refusal = {"errors": [{"message": "Invalid user credentials."}]}
        self.send_response(200 if taken else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {}} if taken else refusal).encode())

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_login_that_is_taken(url: str, run_module) -> None:
    result = run_module(directus_login_info.main, url=url, email="admin@openmates.org", password=PASSWORD)
    assert result["accepted"]
    assert PASSWORD not in json.dumps(result)


def test_a_refused_login_says_why_without_the_password(url: str, run_module) -> None:
    result = run_module(directus_login_info.main, url=url, email="admin@openmates.org", password="not-" + PASSWORD)
    assert (result["accepted"], result["reason"]) == (False, "Invalid user credentials.")
    assert PASSWORD not in json.dumps(result)


def test_a_directus_that_does_not_answer(run_module) -> None:
    result = run_module(directus_login_info.main, url="http://127.0.0.1:9", email="a@openmates.org", password=PASSWORD)
    assert not result["accepted"]
    assert "http://127.0.0.1:9 does not answer" in result["reason"]
