"""ready.py against a fake Directus and a fake Vault. tests/queues has real workers."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "files/compose/config/bin/ready.py"
spec = importlib.util.spec_from_file_location("ready", FILE)
ready = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ready)

EMAIL, PASSWORD, TOKEN = "admin@lab.openmates.org", "right-password", "hvs.right-token"
EXPECTED = {"users": ["id", "email"], "chats": ["id", "title"], "folder": []}


class Fake:
    """Answers by method and path, and records the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict, dict]] = []
        self.answers: dict[str, object] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = (self.command, self.path, dict(self.headers), json.loads(body or b"{}"))
                outer.asked.append(request)
                found = outer.answers.get(f"{self.command} {self.path}") or outer.default(*request)
                found = found.pop(0) if isinstance(found, list) else found
                status, content, headers = (*found, {})[:3]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def default(self, method: str, path: str, headers: dict, body: dict) -> tuple[int, object]:
        return 404, {}

    def count(self, path: str) -> int:
        return sum(asked[1] == path for asked in self.asked)


class FakeDirectus(Fake):
    def default(self, method, path, headers, body):
        if path == "/server/ping":
            return 200, b"pong"
        if path == "/auth/login":
            if (body["email"], body["password"]) == (EMAIL, PASSWORD):
                return 200, {"data": {"access_token": "access", "refresh_token": "refresh"}}
            code = {"code": "INVALID_CREDENTIALS"}
            return 401, {"errors": [{"message": "Invalid user credentials.", "extensions": code}]}
        if path == "/auth/logout":
            return 204, b""
        assert headers["Authorization"] == "Bearer access"
        if path == "/collections":
            return 200, {"data": [{"collection": name, "schema": {"name": name}} for name in EXPECTED]}
        return 200, {"data": [{"collection": c, "field": f} for c, fields in EXPECTED.items() for f in fields]}


class FakeVault(Fake):
    """Like Vault under the api's policies: encrypting with a missing key would create it, so it is denied."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def default(self, method, path, headers, body):
        path = path.removeprefix("/v1/")
        if headers["X-Vault-Token"] != TOKEN:
            return 403, {"errors": ["permission denied"]}
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": 7200, "expire_time": "2027-01-01T00:00:00Z"}}
        if (method, path) == ("POST", "kv/data/providers/vapid"):
            assert body["options"]["cas"] > 1000, "a secret would be overwritten"
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        if path == "sys/mounts/transit":
            return 200, {"data": {"type": "transit"}}
        verb, _, key = path.removeprefix("transit/").partition("/")
        if path.startswith("transit/keys/"):
            if method == "POST":
                self.keys.add(key)
                return 204, b""
            return (200, {"data": {}}) if key in self.keys else (404, {"errors": []})
        if path.startswith("transit/"):
            if key not in self.keys:
                return 403, {"errors": ["permission denied"]}
            if verb == "encrypt":
                return 200, {"data": {"ciphertext": "vault:v1:" + body["plaintext"]}}
            if verb == "decrypt":
                return 200, {"data": {"plaintext": body["ciphertext"].removeprefix("vault:v1:")}}
            return 200, {"data": {"hmac": "vault:v1:x"}}
        return 404, {"errors": []}


def results(parts) -> dict[str, tuple[bool, str]]:
    return dict(parts._results)


@pytest.fixture
def expected(tmp_path: Path) -> Path:
    file = tmp_path / "expected.json"
    file.write_text(json.dumps({"source": "a schema", "collections": EXPECTED}))
    return file


@pytest.fixture
def directus(monkeypatch) -> Iterator[FakeDirectus]:
    fake = FakeDirectus()
    monkeypatch.setenv("CMS_URL", fake.url)
    monkeypatch.setenv("DATABASE_ADMIN_EMAIL", EMAIL)
    monkeypatch.setenv("DATABASE_ADMIN_PASSWORD", PASSWORD)
    yield fake
    fake.server.shutdown()


@pytest.fixture
def vault(monkeypatch) -> Iterator[FakeVault]:
    fake = FakeVault()
    monkeypatch.setenv("VAULT_URL", fake.url)
    yield fake
    fake.server.shutdown()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "api.token"
    file.write_text(TOKEN + "\n")
    return file


def check_directus(expected: Path, skip: str = "", cache: bool = True):
    parts = ready.Parts()
    part = ready.Directus(parts, expected, skip)
    part.check(lambda: cache)
    return results(parts), part.login_result


def check_vault(token: Path) -> dict[str, tuple[bool, str]]:
    parts = ready.Parts()
    ready.Vault(parts, token).check()
    return results(parts)


# ---------------------------------------------------------------- Directus


def test_a_good_directus(directus, expected):
    found, login = check_directus(expected)
    assert login == "accepted"
    assert found == {
        "directus_login": (True, f"as {EMAIL}"),
        "collections": (True, "all 3 are there"),
        "fields": (True, "all 4 are there"),
    }
    assert directus.asked[-1][1] == "/auth/logout", "a session would stay in the database for weeks"
    assert directus.asked[-1][3]["refresh_token"] == "refresh"


def test_a_wrong_password_is_one_rejected_login(directus, expected, monkeypatch):
    monkeypatch.setenv("DATABASE_ADMIN_PASSWORD", "wrong-password")
    found, login = check_directus(expected)
    assert (login, directus.count("/auth/login")) == ("rejected", 1)
    assert not found["directus_login"][0] and "401 Invalid user credentials." in found["directus_login"][1]
    assert found["collections"] == found["fields"] == (False, "not asked: there is no login to Directus")
    assert "wrong-password" not in str(found)


def test_a_login_that_may_not_be_tried_is_not(directus, expected):
    found, login = check_directus(expected, skip="rejected at noon")
    assert (found["directus_login"], login) == ((False, "rejected at noon"), "not tried")
    assert directus.asked == []


def test_no_login_while_directus_would_count_its_own_timeout(directus, expected):
    found, login = check_directus(expected, cache=False)
    assert login == "not tried" and "the cache cannot be used" in found["directus_login"][1]
    directus.answers["GET /server/ping"] = (500, {})
    found, login = check_directus(expected)
    assert login == "not tried" and "Directus answers 500" in found["directus_login"][1]
    assert directus.count("/auth/login") == 0


def test_missing_credentials_are_named_without_a_login(directus, expected, monkeypatch):
    monkeypatch.delenv("DATABASE_ADMIN_PASSWORD")
    found, login = check_directus(expected)
    assert login == "not tried" and "DATABASE_ADMIN_PASSWORD is missing" in found["directus_login"][1]


def test_a_suspended_administrator_is_not_taken_for_a_wrong_password(directus, expected):
    suspended = {"errors": [{"message": "User suspended.", "extensions": {"code": "USER_SUSPENDED"}}]}
    directus.answers["POST /auth/login"] = (401, suspended)
    found, login = check_directus(expected)
    assert login == "paused" and "suspended the administrator" in found["directus_login"][1]


def test_pressure_is_waited_for_as_directus_asks(directus, expected, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(ready.time, "sleep", slept.append)
    pressure = (503, {"errors": [{"message": "Under pressure"}]}, {"Retry-After": "1"})
    login = (200, {"data": {"access_token": "access", "refresh_token": "refresh"}})
    directus.answers["POST /auth/login"] = [pressure, pressure, login]
    assert check_directus(expected)[1] == "accepted"
    assert slept == [1, 1]
    directus.answers["POST /auth/login"] = [pressure, pressure, pressure]
    found, result = check_directus(expected)
    assert result == "unanswered" and "503 Under pressure" in found["directus_login"][1]


def test_missing_collections_and_fields_are_named(directus, expected):
    lists = [{"collection": "chats", "schema": {}}, {"collection": "users", "schema": None}, {"collection": "folder"}]
    directus.answers["GET /collections"] = (200, {"data": lists})
    directus.answers["GET /fields"] = (200, {"data": [{"collection": "chats", "field": "id"}]})
    found, _ = check_directus(expected)
    assert found["collections"] == (False, "1 of 3 are missing: users"), "what remains of it has no table"
    assert found["fields"] == (False, "1 of 2 are missing: chats.title"), "not those of the missing collection too"


@pytest.mark.parametrize("content", [None, "", "[]", '{"collections": {}}', '{"collections": {"a": 5}}'])
def test_without_a_list_of_what_is_expected_nothing_is_green(directus, tmp_path, content):
    file = tmp_path / "expected.json"
    if content is not None:
        file.write_text(content)
    found, _ = check_directus(file)
    assert not found["collections"][0] and not found["fields"][0]
    assert str(file) in found["collections"][1] and "cms-setup" in found["collections"][1]


# ---------------------------------------------------------------- Vault


def test_a_good_vault_keeps_one_key_however_often_it_is_asked(vault, token):
    for _ in range(2):
        found = check_vault(token)
        assert all(ok for ok, _ in found.values()), found
    assert vault.keys == {ready.PROBE_KEY}
    assert found["vault_token"] == (True, "valid for 2 h")
    plain = [body["plaintext"] for _, path, _, body in vault.asked if "encrypt" in path]
    assert all(base64.b64decode(text) for text in plain)


def test_a_sealed_vault(vault, token):
    vault.answers["GET /v1/auth/token/lookup-self"] = (503, {"errors": ["Vault is sealed"]})
    found = check_vault(token)
    assert found["vault_token"] == (False, "Vault is sealed")
    assert not found["vault_policy"][0] and not found["transit"][0]


def test_an_expired_token(vault, token):
    token.write_text("hvs.expired")
    found = check_vault(token)
    assert not found["vault_token"][0] and "expired or revoked" in found["vault_token"][1]
    assert "hvs.expired" not in str(found)
    token.unlink()
    assert "cannot be read" in check_vault(token)["vault_token"][1]


@pytest.mark.parametrize(
    ("data", "ok"),
    [
        ({"ttl": 3600, "expire_time": "2027"}, False),
        ({"ttl": 3601, "expire_time": "2027"}, True),
        ({"ttl": 0, "expire_time": None}, True),
        ({"ttl": 0, "expire_time": "2027"}, False),
    ],
)
def test_the_tokens_time(vault, token, data, ok):
    vault.answers["GET /v1/auth/token/lookup-self"] = (200, {"data": data})
    assert check_vault(token)["vault_token"][0] is ok


def test_a_policy_without_the_mount(vault, token):
    vault.answers["GET /v1/sys/mounts/transit"] = (403, {"errors": ["permission denied"]})
    found = check_vault(token)
    assert found["vault_policy"] == (False, "the api's token may not read sys/mounts/transit")
    assert found["vault_token"][0] and found["transit"][0]


def test_a_policy_without_the_key_pair_for_push_messages(vault, token):
    vault.answers["POST /v1/kv/data/providers/vapid"] = (403, {"errors": ["permission denied"]})
    assert check_vault(token)["vault_policy"] == (False, "the api's token may not write kv/data/providers/vapid")


def test_a_policy_without_decrypting(vault, token):
    vault.answers[f"POST /v1/transit/decrypt/{ready.PROBE_KEY}"] = (403, {"errors": ["permission denied"]})
    found = check_vault(token)
    assert not found["transit"][0] and "transit/decrypt" in found["transit"][1]


# ---------------------------------------------------------------- queues, judged by what their workers say

NOW = 1_000_000.0


class FakeInspect:
    def __init__(self, workers: dict[str, dict], destination: object = None) -> None:
        self.workers, self.destination = workers, destination

    def of(self, name: str) -> dict:
        return {worker: said[name] for worker, said in self.workers.items() if name in said}

    def active_queues(self):
        return self.of("queues")

    def active(self):
        return self.of("active")

    def query_task(self, *_):
        return self.of("taken")

    def stats(self):
        said = self.of("stats")
        for worker in self.workers.values():
            if "then" in worker:
                worker["stats"] = {**worker["stats"], "total": worker["then"]}
        return said


def worker(queue: str = "email", ages: tuple = (), slots: int = 2, **more: object) -> dict:
    """The answer of a worker that runs tasks of these ages."""
    where = {"delivery_info": {"routing_key": queue}}
    active = [{"name": "work", "worker_pid": pid, "time_start": NOW - age, **where} for pid, age in enumerate(ages, 1)]
    pool = {"max-concurrency": slots, "processes": list(range(1, slots + 1))}
    return {"queues": [{"name": queue}], "active": active, "stats": {"pool": pool, "total": {"work": 7}}, **more}


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setattr(ready.time, "sleep", lambda _: None)
    monkeypatch.setattr(ready.time, "time", lambda: NOW)

    def run(limits: dict[str, float] | None = None, /, **workers: dict) -> tuple[bool, str]:
        class App:
            class control:
                @staticmethod
                def inspect(**options):
                    return FakeInspect(workers, options.get("destination"))

        return ready.Consumers(App, limits or {}).judge({"email": "task-1"})["email"]

    return run


TAKEN = {"task-1": ["reserved", {}]}


@pytest.mark.parametrize(
    ("workers", "ok", "words"),
    [
        ({}, False, "no worker answers that consumes it"),
        ({"a": worker("push")}, False, "no worker answers that consumes it"),
        ({"a": worker(ages=(5, 1259))}, True, "busy: a runs 2 tasks, the oldest for 1259 s"),
        ({"a": worker(ages=(5, 1261))}, False, "a has run work for 1261 s"),
        ({"a": worker(ages=(5,))}, False, "a has 1 of 2 processes free"),
        ({"a": worker()}, False, "a has 2 of 2 processes free"),
        ({"a": worker(then={"work": 9})}, True, "a is working: it began 2 tasks"),
        ({"a": worker(ages=(5, 6)), "b": worker()}, False, "b has 2 of 2"),
        ({"a": worker(ages=(5, 6), taken=TAKEN), "b": worker()}, True, "busy: a"),
        ({"a": worker(ages=(5, 6)), "b": worker(taken=TAKEN)}, False, "b has 2 of 2"),
        ({"a": {"queues": [{"name": "email"}]}}, False, "a consumes it but does not report"),
    ],
)
def test_a_queue_that_does_not_answer(judge, workers, ok, words):
    found = judge(**json.loads(json.dumps(workers)))
    assert found[0] is ok and words in found[1], found


@pytest.mark.parametrize(("limit", "ok"), [(3601, True), (3599, False), (float("inf"), True)])
def test_a_queue_with_a_limit_of_its_own(judge, limit, ok):
    assert judge({"email": limit}, a=worker(ages=(5, 3600)))[0] is ok


def test_a_task_of_a_process_that_is_gone_does_not_make_a_worker_busy(judge):
    lost = worker(ages=(5, 6))
    lost["stats"]["pool"]["processes"] = [98, 99]
    assert judge(a=lost) == (False, "a has 2 of 2 processes free and does no task")


# ---------------------------------------------------------------- the whole program


def test_the_program_reports_every_part_and_no_secret(directus, vault, expected, token):
    command = [sys.executable, str(FILE), "--expected", str(expected), "--token-file", str(token)]
    command += ["--queues", "email,push,email", "--health-path", "/none", "--task-limits", '{"push": 0}']
    environment = {
        **{"CMS_URL": directus.url, "VAULT_URL": vault.url, "DRAGONFLY_URL": "127.0.0.1:1", "PATH": ""},
        **{"DATABASE_ADMIN_EMAIL": EMAIL, "DATABASE_ADMIN_PASSWORD": PASSWORD, "DRAGONFLY_PASSWORD": "cache-password"},
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    names = ["directus_login", "collections", "fields", "vault_token", "vault_policy", "transit", "cache"]
    assert [part["name"] for part in answer["parts"]] == [*names, "queue:email", "queue:push", "health"]
    assert answer["login"] == "not tried", "there is no cache"
    for secret in (PASSWORD, TOKEN, "cache-password", "access"):
        assert secret not in done.stdout + done.stderr


def test_a_defect_of_the_probe_is_not_a_working_part():
    parts = ready.Parts()
    assert not parts.run("cache", lambda: 1 / 0)
    assert results(parts)["cache"][0] is False and "ZeroDivisionError" in results(parts)["cache"][1]
    assert parts.listed(["cache", "health"], "too late")[1] == {"name": "health", "ok": False, "detail": "too late"}


def test_health_has_a_bucket_of_its_own(monkeypatch):
    asked: list[tuple] = []
    monkeypatch.setattr(ready, "call", lambda *request: asked.append(request) or (200, {}, b'{"status": "degraded"}'))
    assert ready.health("/v1/health") == "answers /v1/health: degraded"
    assert asked == [("GET", "http://127.0.0.1:8000/v1/health", {"X-Forwarded-For": "192.0.2.2"})]
    monkeypatch.setattr(ready, "call", lambda *_: (503, {}, b""))
    with pytest.raises(ready.Failure, match="answers /v1/health with 503"):
        ready.health("/v1/health")


def test_a_client_that_fails_is_named_without_the_brokers_address(monkeypatch):
    def fail(_self) -> None:
        raise RuntimeError("redis://default:s3cret@cache:6379/0 refused")

    monkeypatch.setattr(ready.Queues, "ping", lambda _self: "answers")
    monkeypatch.setattr(ready.Queues, "ask_queues", fail)
    parts = ready.Parts()
    ready.Queues(parts, ["email"], {}).check()
    assert parts.listed(["queue:email"], "") == [
        {"name": "queue:email", "ok": False, "detail": "the queues cannot be asked: RuntimeError"}
    ]
