"""The parts of the directus_* modules that can be tested without a Directus."""

from __future__ import annotations

import importlib.util
import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest
from ansible_collections.openmates.server.plugins.module_utils.directus import api, schema, tokens
from ansible_collections.openmates.server.plugins.module_utils.directus.changes import Changes, differing

# ---------------------------------------------------------------- ids


def test_an_id_is_derived_from_kind_and_name_and_shows_its_origin():
    assert api.stable_id("role", "Editor") == "505e3ec7-945e-8748-88d9-49b5c705118f"  # for ever: servers hold it
    assert api.stable_id("policy", "Editor") != api.stable_id("role", "Editor")
    assert api.is_owned(api.stable_id("role", "Editor"))
    for other in ("17e8d2ea-30a0-409a-8fad-cb4e06d00e23", "505e3ec7-945e-8748-88d9-49b5c7051190", "not an id"):
        assert not api.is_owned(other)


# ---------------------------------------------------------------- requests


def test_a_proxy_of_the_host_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"pong")

        def log_message(self, *_: object) -> None: ...

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # Loaded again: an opener reads the environment when it is made.
    spec = importlib.util.spec_from_file_location("api_behind_a_proxy", api.__file__)
    assert spec and spec.loader
    behind = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(behind)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert behind.fetch(f"http://127.0.0.1:{server.server_address[1]}/server/ping", timeout=5) == b"pong"


# ---------------------------------------------------------------- refusals


def refused(status: int, body: object) -> api.Refused:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.refusal("POST /users", HTTPError("http://x", status, "", {}, io.BytesIO(text)))


def test_a_limit_of_the_licence_is_reported_as_a_licence_problem():
    """The message of Directus 12.1, as quoted in its issue 27833; not tested with that version."""
    error = {
        "message": "collections limit exceeded.",
        "extensions": {"code": "LIMIT_EXCEEDED", "category": "collections"},
    }
    told = str(refused(403, {"errors": [error]}))
    assert "Directus's licence does not allow it: collections limit exceeded (POST /users)" in told
    assert "openmates_directus_image" in told


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (429, {"errors": [{"message": "Slow.", "extensions": {"code": "REQUESTS_EXCEEDED"}}]}, "rate limiter"),
        (403, {"errors": [{"message": "No.", "extensions": {"code": "FORBIDDEN"}}]}, "No. (FORBIDDEN)"),
        (502, b"<html>Bad gateway</html>", "no reason given. (HTTP status 502)"),
        (500, {"errors": []}, "(HTTP status 500)"),
    ],
)
def test_other_refusals(status, body, told):
    assert told in str(refused(status, body))


# ---------------------------------------------------------------- a busy Directus, and an old session


class FakeDirectus(BaseHTTPRequestHandler):
    """Answers with the server's `answers` for the path, one after the other, and then repeats the last."""

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.asked.append((f"{self.command} {self.path}", self.headers.get("Authorization"), time.monotonic()))
        self.rfile.read(length)
        answers = self.server.answers[self.path]
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_SEARCH = answer

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def error(code: str) -> dict:
    return {"errors": [{"message": "No.", "extensions": {"code": code}}]}


LOGGED_IN = (200, {"data": {"access_token": "new", "refresh_token": "refresh"}}, {})
BUSY = error("SERVICE_UNAVAILABLE")
FOUND = (200, {"data": {"id": 1}}, {})


@pytest.fixture
def fake() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), FakeDirectus) as server:
        server.answers, server.asked = {"/auth/logout": [(204, None, {})]}, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def client(fake: HTTPServer, **options: float) -> api.Directus:
    return api.Directus(f"http://127.0.0.1:{fake.server_port}", **options)


def test_503_is_retried_and_retry_after_is_honoured(fake, monkeypatch):
    monkeypatch.setattr(api, "BUSY_SECONDS", 0.05)
    fake.answers["/settings"] = [(503, BUSY, {}), (503, BUSY, {"Retry-After": "1"}), (503, BUSY, {}), FOUND]
    assert client(fake).ask("GET", "/settings") == {"id": 1}
    moments = [moment for _, _, moment in fake.asked]
    assert len(moments) == 4
    assert 0.9 <= moments[2] - moments[1] > moments[1] - moments[0]


def test_503_is_retried_for_as_long_as_the_patience_lasts(fake, monkeypatch):
    monkeypatch.setattr(api, "BUSY_SECONDS", 0.05)
    fake.answers["/settings"] = [(503, BUSY, {})]
    begin = time.monotonic()
    with pytest.raises(api.Refused, match="SERVICE_UNAVAILABLE"):
        client(fake, patience=0.5).ask("GET", "/settings")
    assert 0.2 < time.monotonic() - begin < 3 and len(fake.asked) > 2
    fake.asked.clear()
    fake.answers["/settings"] = [(503, BUSY, {"Retry-After": "3600"})]
    with pytest.raises(api.Refused):
        client(fake, patience=5).ask("GET", "/settings")
    assert len(fake.asked) == 1, "a wait that is longer than the patience is not begun"


def test_retry_after_is_a_number_or_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert api.retry_after("7", 1) == 7
    assert 27 < api.retry_after(soon, 1) <= 30
    assert api.retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1) == 0
    assert [api.retry_after(header, 1) for header in (None, "", "soon", "-3")] == [1, 1, 1, 1]


def test_only_503_is_retried(fake):
    for status, code in ((400, "INVALID_PAYLOAD"), (403, "FORBIDDEN"), (429, "REQUESTS_EXCEEDED"), (500, "INTERNAL")):
        fake.asked.clear()
        fake.answers["/settings"] = [(status, error(code), {})]
        with pytest.raises(api.Refused):
            client(fake).ask("GET", "/settings")
        assert len(fake.asked) == 1, code


def test_a_refused_login_is_not_repeated_but_one_that_meets_a_busy_directus_is(fake, monkeypatch):
    monkeypatch.setattr(api, "BUSY_SECONDS", 0.05)
    fake.answers["/auth/login"] = [(401, error("INVALID_CREDENTIALS"), {})]
    with pytest.raises(api.Refused):
        client(fake).log_in("admin", "wrong")
    assert len(fake.asked) == 1
    fake.answers["/auth/login"] = [(503, BUSY, {}), LOGGED_IN]
    session = client(fake)
    session.log_in("admin", "right")
    assert session.token == "new"


def test_a_session_that_expired_is_opened_again_once(fake):
    fake.answers["/auth/login"] = [LOGGED_IN]
    fake.answers["/settings"] = [(401, error("TOKEN_EXPIRED"), {}), FOUND]
    with client(fake) as session:
        session.log_in("admin", "right")
        session.token = "old"
        assert session.ask("GET", "/settings") == {"id": 1}
        asked = [(request, bearer) for request, bearer, _ in fake.asked][1:]
        assert asked == [
            ("GET /settings", "Bearer old"),
            ("POST /auth/login", None),
            ("GET /settings", "Bearer new"),
        ]
        fake.answers["/settings"] = [(401, error("TOKEN_EXPIRED"), {})]
        fake.asked.clear()
        with pytest.raises(api.Refused):
            session.ask("GET", "/settings")
        assert [request for request, _, _ in fake.asked].count("POST /auth/login") == 1
        fake.asked.clear()
        with pytest.raises(api.Refused):
            session.ask("GET", "/settings", token="of another user")
        assert len(fake.asked) == 1, "the session of another user is none of ours to open again"


# ---------------------------------------------------------------- what differs


def test_nothing_is_nothing_however_directus_writes_it_and_lists_of_words_are_sets():
    wanted = {"ip_access": None, "permissions": {}, "fields": ["b", "a"], "admin_access": False, "name": "x"}
    found = {"ip_access": [], "permissions": None, "fields": ["a", "b"], "admin_access": True, "name": "x", "other": 1}
    assert differing(wanted, found) == {"admin_access": False}


def test_changes_are_reported_without_secrets():
    changes = Changes()
    changes.created("user website", {"token": "t0ken", "password": "s3cret", "role": "r"})
    changes.corrected("user person", {"password": None, "status": "active"}, {"password": "s3cret", "status": "x"})
    told = json.dumps([changes.names, changes.diff()])
    assert "t0ken" not in told and "s3cret" not in told
    assert changes.names == ["user website: created", "user person: password, status corrected"]
    assert '  status: "active"\n' in changes.diff()["before"]


# ---------------------------------------------------------------- the schema


def entry(kind: str, path: list | None = None, **values: object) -> dict:
    return {"collection": "articles", "field": "title", "diff": [{"kind": kind, "path": path, **values}]}


@pytest.mark.parametrize(
    ("path", "before", "after", "loses"),
    [
        (["type"], "string", "integer", True),
        (["schema", "data_type"], "varchar", "int", True),
        (["schema", "max_length"], 255, 10, True),
        (["schema", "max_length"], 10, 255, False),
        (["schema", "max_length"], 10, None, False),
        (["schema", "max_length"], None, 10, True),
        (["schema", "numeric_precision"], 10, 5, True),
        (["schema", "is_nullable"], True, False, False),
        (["meta", "note"], "a", "b", False),
    ],
)
def test_which_changes_of_a_column_can_lose_data(path, before, after, loses):
    diff = {"fields": [entry("E", path, lhs=before, rhs=after)]}
    assert bool(schema.losses(diff)) is loses
    assert schema.names(diff) == [f"field articles.title: {'.'.join(path)} corrected"]


def test_what_the_snapshot_lacks_is_named_and_kept_out_of_what_is_applied():
    gone, new = entry("D", lhs={}), entry("N", rhs={})
    added = {"collection": "pages", "diff": [{"kind": "N", "rhs": {}}]}
    diff = {"collections": [added], "fields": [gone]}
    assert schema.removals(diff) == ["field articles.title"] and schema.losses(diff) == []
    assert schema.additions(diff) == {"collections": [added], "fields": [], "systemFields": [], "relations": []}
    anew = {"fields": [gone, new]}
    assert schema.additions(anew)["fields"] == [] and schema.removals(anew) == []
    assert schema.losses(anew) == ["field articles.title would be removed and created again"]


def test_a_part_of_the_meta_data_that_goes_is_a_correction():
    diff = {"fields": [entry("D", ["meta", "note"], lhs="x")]}
    assert schema.additions(diff)["fields"] == diff["fields"]
    assert schema.names(diff) == ["field articles.title: meta.note corrected"]


# ---------------------------------------------------------------- tokens


class FakeVault(BaseHTTPRequestHandler):
    """Answers as Vault's kv version 2 does."""

    def do_GET(self) -> None:
        name = self.path.removeprefix("/v1/kv/data/system/directus/")
        secrets = {"website": {"token": "w" * 48}, "short": {"token": "x"}, "empty": {}}
        status = 403 if self.headers["X-Vault-Token"] != "right" else 200 if name in secrets else 404
        if name == "sealed":
            status = 503
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"data": secrets.get(name)}}).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def source(tmp_path: Path) -> Iterator[dict]:
    (tmp_path / "token").write_text("right\n")
    with HTTPServer(("127.0.0.1", 0), FakeVault) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield {"url": url, "token_file": str(tmp_path / "token"), "engine": "kv", "path": "system/directus"}
        server.shutdown()


def test_a_token_is_read(source):
    assert tokens.read(source, ["website"], lenient=False) == {"website": "w" * 48}


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("absent", {}, "kv/system/directus/absent is missing"),
        ("short", {}, "no field token of at least 32 characters"),
        ("empty", {}, "no field token of at least 32 characters"),
        ("sealed", {}, "Check that it is unsealed"),
        ("website", {"token_file": "/nonexistent"}, "/nonexistent cannot be read"),
        ("website", {"token_file": "/dev/null"}, "refuses access to"),
        ("website", {"url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_reasons_for_a_missing_token(source, name, changes, told):
    with pytest.raises(api.DirectusProblem, match=told.replace("?", r"\?")):
        tokens.read({**source, **changes}, [name], lenient=False)
    assert tokens.read({**source, **changes}, [name], lenient=True) == {}


def test_without_a_source_no_user_can_have_a_token():
    with pytest.raises(api.DirectusProblem, match="tokens_from is not set"):
        tokens.read(None, ["website"], lenient=False)
