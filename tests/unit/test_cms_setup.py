"""The wrapper of OpenMates' own cms-setup, with a fake program and a fake Directus."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

WRAPPER = Path(__file__).parents[2] / "files/compose/config/bin/cms-setup.py"
PASSWORD, CODE = "Xw7pQz4KvN2tRb", "AB12-CD34-EF56"
SCHEMA = {
    "users.yml": {"directus_users": {"fields": {"vault_key_id": {}}}},
    "invite_codes.yml": {"invite_codes": {"fields": {"id": {}, "code": {}}}},
    "chats.yml": {"chats": {"fields": {"id": {}, "title": {}}}},
    "tasks.yml": {"tasks": {"fields": {"id": {}}}, "task_notes": {"fields": {"id": {}}}},
}
EXPECTED = {
    "directus_users": ["vault_key_id"],
    "invite_codes": ["id", "code"],
    "chats": ["id", "title"],
    "tasks": ["id"],
}

# Makes what the files declare, except for what SKIP names, for so many passes: {"chats": [passes, "what it prints"]}.
PROGRAM = """
import json, os, pathlib, sys, urllib.request, yaml
def post(path, body):
    request = urllib.request.Request(os.environ["CMS_URL"] + path, method="POST", data=json.dumps(body).encode())
    return json.loads(urllib.request.urlopen(request).read())
number, skip = post("/fake/pass", {}), json.loads(os.environ.get("SKIP", "{}"))
folder = pathlib.Path(os.environ["SCHEMAS_DIR"])
print("files:", *sorted(file.name for file in folder.iterdir()))
for file in sorted(folder.iterdir()):
    print(f"--- Processing schema file: {file.name} ---")
    for name, declared in list(yaml.safe_load(file.read_text()).items())[: None if os.environ.get("ALL") else 1]:
        print("Creating collection:", name)
        passes, text = skip.get(name, (0, ""))
        if number <= passes:
            print(text)
            continue
        fields = []
        for field in declared["fields"]:
            passes, text = skip.get(f"{name}.{field}", (0, ""))
            print(text) if number <= passes else fields.append(field)
        post("/fake/made", {name: fields})
    print(f"--- Finished processing: {file.name} (Success: True) ---")
print(os.environ.get("PRINT", ""), os.environ["SELF_HOST_FIRST_INVITE_CODE"], os.environ["DATABASE_ADMIN_PASSWORD"])
print("Schema setup complete")
sys.exit(int(os.environ.get("EXIT", "0")))
"""


class Handler(BaseHTTPRequestHandler):
    """The parts of Directus that the wrapper and the program above use."""

    protocol_version = "HTTP/1.1"

    def send(self, status: int, body: object, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status: int, code: str, **headers: str) -> None:
        self.send(status, {"errors": [{"message": "No.", "extensions": {"code": code}}]}, **headers)

    def answer(self) -> None:
        fake = self.server.fake
        path = self.path.partition("?")[0]
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        request = f"{self.command} {path}"
        fake.asked.append(request)
        if fake.refusals.get(request):
            status, code, headers = fake.refusals[request].pop(0)
            return self.refuse(status, code, **headers)
        if path == "/server/ping":
            return self.send(200, b"pong")
        if path.startswith("/fake/"):
            return self.send(200, fake.told(path, body))
        if path == "/auth/login":
            if body["password"] != PASSWORD:
                return self.refuse(401, "INVALID_CREDENTIALS")
            fake.tokens += 1
            tokens = {"access_token": f"token-{fake.tokens}", "refresh_token": "refresh"}
            return self.send(200, {"data": tokens})
        if path == "/auth/logout":
            return self.send(204, b"")
        if self.headers["Authorization"] != f"Bearer token-{fake.tokens}":
            return self.refuse(401, "TOKEN_EXPIRED")
        self.send(200, {"data": fake.found(request, body)})

    do_GET = do_POST = do_DELETE = do_SEARCH = answer

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Fake:
    """The server's state. `refusals`: by request, answers to give before the real one."""

    def __init__(self) -> None:
        self.collections: dict[str, list[str]] = {"directus_users": ["id"]}
        self.codes: list[str] = []
        self.users: list[str] = []
        self.refusals: dict[str, list[tuple]] = {}
        self.asked: list[str] = []
        self.tokens = self.passes = 0

    def told(self, path: str, body: dict) -> object:
        if path == "/fake/pass":
            self.passes += 1
            return self.passes
        for name, fields in body.items():
            self.collections[name] = sorted({*self.collections.get(name, []), *fields})
        return None

    def found(self, request: str, body: dict | None) -> object:
        if request == "GET /collections":
            return [{"collection": name} for name in self.collections]
        if request == "GET /fields":
            return [
                {"collection": name, "field": field} for name, fields in self.collections.items() for field in fields
            ]
        if request == "POST /items/invite_codes":
            self.codes.append(body["code"])
            return {"id": "x"}
        if request == "GET /items/invite_codes":
            return [{"id": code, "code": code} for code in self.codes]
        if request.startswith("DELETE /items/invite_codes/"):
            self.codes.remove(request.rpartition("/")[2])
            return None
        if request == "SEARCH /items/invite_codes":
            wanted = body["query"]["filter"].get("code", {}).get("_eq")
            return [{"id": code} for code in self.codes if wanted in (None, code)]
        assert request == "SEARCH /users", request
        assert body["query"]["filter"] == {"vault_key_id": {"_nnull": True}}
        return [{"id": user} for user in self.users]


class Wrapped:
    """The wrapper with the program above."""

    def __init__(self, fake: Fake, url: str, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        for name in ("schemas", "secrets", "out"):
            (folder / name).mkdir()
        for name, text in SCHEMA.items():
            (folder / "schemas" / name).write_text(yaml.safe_dump(text, sort_keys=False))
        self.secret("DATABASE_ADMIN_PASSWORD", PASSWORD)
        self.secret("SELF_HOST_FIRST_INVITE_CODE", CODE)
        (folder / "program.py").write_text(PROGRAM)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",  # host_files would take what Python leaves there for a file of the stack
            "CMS_URL": url,
            "DATABASE_ADMIN_EMAIL": "admin@openmates.org",
            "CMS_SETUP_SECRETS": str(folder / "secrets"),
            "SCHEMAS_DIR": str(folder / "schemas"),
            "CMS_SETUP_EXPECTED": str(folder / "out/expected.json"),
            "CMS_SETUP_SOURCE": "openmates-cms-setup:test",
            "CMS_SETUP_TIMEOUT": "60",
        }

    def secret(self, name: str, value: str) -> None:
        (self.folder / "secrets" / name).write_text(value + "\n")

    def run(self, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(WRAPPER), sys.executable, str(self.folder / "program.py")]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment | environment, timeout=120, check=False
        )

    def works(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 1, done.stdout + done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("cms-setup: failed: "), done.stderr
        return last

    def expected(self) -> dict:
        return json.loads((self.folder / "out/expected.json").read_text())


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Wrapped]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.fake = Fake()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield Wrapped(server.fake, f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()


def skip(**what: tuple[int, str]) -> str:
    return json.dumps({name.replace("__", "."): value for name, value in what.items()})


def test_one_pass_is_enough_and_the_next_run_needs_none(setup):
    output = setup.works()
    assert setup.fake.passes == 1 and "all 4 collections of openmates-cms-setup:test are there" in output
    written = setup.expected()
    assert (written["source"], written["collections"]) == ("openmates-cms-setup:test", EXPECTED)
    assert len(written["digest"]) == 64
    assert "nothing to do" in setup.works()
    assert setup.fake.passes == 1


def test_another_schema_or_program_is_another_pass(setup):
    setup.works()
    file = setup.folder / "schemas/chats.yml"
    file.write_text(file.read_text() + "# another version\n")
    setup.works()
    assert setup.fake.passes == 2
    (setup.folder / "program.py").write_text(PROGRAM + "\n")
    setup.works()
    assert setup.fake.passes == 3


def test_missing_objects_are_created_by_a_pass_for_them_only(setup):
    setup.works()
    setup.fake.collections["chats"].remove("title")
    output = setup.works()
    assert "missing: 1 field: chats.title" in output and setup.fake.passes == 2


def test_a_pass_that_was_refused_is_repeated_for_what_is_left(setup):
    busy = "Failed to create collection chats: 503\nResponse body: Under pressure."
    output = setup.works(SKIP=skip(chats=(1, busy)))
    assert setup.fake.passes == 2
    assert "missing: 1 collection: chats" in output
    assert re.findall("^files: .*", output, re.MULTILINE)[1] == "files: chats.yml"


def test_what_was_refused_without_a_trace_is_repeated_too(setup):
    """A refused permission or correction: nothing is missing, but a request was refused."""
    setup.works(SKIP=skip(chats__other=(0, "")), PRINT="")
    setup.fake.passes = 0
    (setup.folder / "out/expected.json").unlink()
    output = setup.works(SKIP=skip(chats=(1, "Failed to update field: 503")))
    assert setup.fake.passes == 2 and "pass 1 ended with exit code 0, 1 refusal" in output


def test_a_refusal_that_nothing_hangs_on_does_not_fail_for_ever(setup):
    output = setup.works(SKIP=skip(chats__other=(99, "")), PRINT="Failed to create permission for x: 400")
    assert setup.fake.passes == 2
    assert "the same was refused twice, though nothing is missing: Failed to create permission" in output


def test_a_refusal_that_lasts_fails_and_names_collections_and_fields(setup):
    refused = skip(chats=(99, "Failed to create collection chats: 400"), invite_codes__code=(99, "Failed to create"))
    message = setup.fails(SKIP=refused)
    assert "Directus lacks 1 collection: chats; 1 field: invite_codes.code" in message
    assert "refused: Failed to create collection chats: 400" in message
    assert setup.fake.passes == 3, "three times the same is enough"
    assert setup.expected() == {
        **{"source": "openmates-cms-setup:test", "digest": "", "invite": ""},
        "collections": EXPECTED,
    }


@pytest.mark.parametrize(
    ("line", "passing"),
    [
        ("Failed to create: HTTPConnectionPool(host='cms', port=8055): Max retries exceeded", True),
        ("Failed to create: ('Connection aborted.', RemoteDisconnected(...))", True),
        ("Error: <urlopen error [Errno 111] Connection refused>", True),
        ("Error: Remote end closed connection without response", True),
        ("Error: Failed to establish a new connection: [Errno 113]", True),
        ("Error: 503 Service Unavailable", True),
        ("Failed to create field connection_id in collection app_connections: invalid type", False),
    ],
)
def test_which_causes_may_pass(line, passing, monkeypatch):
    monkeypatch.syspath_prepend(WRAPPER.parent)
    spec = importlib.util.spec_from_file_location("cms_setup_wrapper", WRAPPER)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    assert bool(module.PASSING.search(line)) is passing


def test_a_cause_that_may_pass_is_waited_for_until_the_deadline(setup):
    busy = "Failed to create collection chats: 503 Under pressure"
    message = setup.fails(SKIP=skip(chats=(99, busy)), CMS_SETUP_TIMEOUT="9")
    assert "not done within 9 s (openmates_cms_setup_timeout)" in message and "chats" in message
    assert setup.fake.passes >= 3, "at the third, a cause that lasts would have ended it with another message"


def test_a_program_that_hangs_is_ended_at_the_deadline(setup):
    (setup.folder / "program.py").write_text("import time\ntime.sleep(600)\n")
    message = setup.fails(CMS_SETUP_TIMEOUT="3")
    assert "not done within 3 s" in message and "collections: " in message


def test_a_program_that_ends_badly_is_no_success_even_if_nothing_is_missing(setup):
    assert "nothing is missing, but the program did not end well" in setup.fails(EXIT="3")


def test_a_busy_directus_is_asked_again_after_retry_after(setup):
    setup.fake.refusals["GET /fields"] = [(503, "SERVICE_UNAVAILABLE", {"Retry_After": "1"})] * 2
    setup.fake.refusals["POST /auth/login"] = [(503, "SERVICE_UNAVAILABLE", {"Retry_After": "0"})]
    setup.works()
    assert setup.fake.asked.count("GET /fields") == 4


def test_an_expired_session_is_opened_again(setup):
    setup.fake.refusals["GET /fields"] = [(401, "TOKEN_EXPIRED", {})]
    setup.works()
    assert setup.fake.asked.count("POST /auth/login") == 3, (
        "one before the passes, one for the expiry, one after the pass"
    )


def test_a_refused_login_is_not_repeated_and_begins_no_pass(setup):
    setup.secret("DATABASE_ADMIN_PASSWORD", "wrong-" + PASSWORD)
    message = setup.fails()
    assert "refuses the login of admin@openmates.org" in message and "run site.yml again" in message
    assert setup.fake.asked.count("POST /auth/login") == 1 and setup.fake.passes == 0


def test_logins_that_are_not_answered_end_long_before_the_account_is_suspended(setup):
    setup.fake.refusals["POST /auth/login"] = [(500, "INTERNAL_SERVER_ERROR", {"Retry_After": "0"})] * 30
    assert "answered none of 4 logins" in setup.fails()
    assert setup.fake.asked.count("POST /auth/login") == 4


def test_neither_code_nor_password_nor_token_is_printed(setup):
    token = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.s1gnature"
    generated = "8274-1930-5561"
    done = setup.run(PRINT=f"Generated invite code: {generated} {token}")
    assert done.returncode == 0
    printed = done.stdout + done.stderr
    assert [secret for secret in (PASSWORD, CODE, generated, token) if secret in printed] == []
    assert "Generated invite code: ******** ********" in printed


def test_a_code_that_was_not_stored_is_stored(setup):
    setup.fake.refusals["POST /items/invite_codes"] = [(503, "SERVICE_UNAVAILABLE", {"Retry_After": "0"})]
    assert "the first invite code was missing: stored" in setup.works()
    assert setup.fake.codes == [CODE]
    assert "stored" not in setup.works()
    assert setup.fake.codes == [CODE]


def test_another_code_replaces_the_former_one_and_no_other(setup):
    setup.works()
    setup.fake.codes.append("M4DE-1N-TH3APP")
    setup.secret("SELF_HOST_FIRST_INVITE_CODE", "N3W0-C0DE-2026")
    printed = setup.works()
    assert "the former one is removed" in printed and CODE not in printed
    assert setup.fake.codes == ["M4DE-1N-TH3APP", "N3W0-C0DE-2026"]
    assert "removed" not in setup.works()


def test_a_code_that_was_used_is_not_stored_again(setup):
    setup.fake.users = ["someone"]
    setup.works()
    assert setup.fake.codes == []


def test_no_code_is_needed_where_none_is_asked_for(setup):
    (setup.folder / "secrets/SELF_HOST_FIRST_INVITE_CODE").unlink()
    assert "openmates_first_invite_code" in setup.fails(SELF_HOST_FIRST_INVITE_CODE="")
    setup.works(SELF_HOST_FIRST_INVITE_CODE="", SELF_HOST_SIGNUP_MODE="domain_allowlist")
    assert setup.fake.codes == []


def test_further_collections_of_a_file_count_once_the_program_makes_them(setup):
    assert "does not make them: task_notes" in setup.works()
    setup.fake.collections.clear()
    setup.fake.collections["directus_users"] = []
    (setup.folder / "out/expected.json").unlink()
    message = setup.fails(ALL="1", SKIP=skip(task_notes=(99, "Failed to create collection task_notes: 400")))
    assert "1 collection: task_notes" in message
    setup.works(ALL="1")
    assert set(setup.expected()["collections"]) == {*EXPECTED, "task_notes"}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("schemas/broken.yml", "a: [", "broken.yml is no YAML"),
        ("schemas/list.yml", "- a", "list.yml declares no collections"),
    ],
)
def test_schema_files_that_are_none(setup, file, text, message):
    (setup.folder / file).write_text(text)
    assert message in setup.fails()


def test_a_place_that_cannot_be_used_is_named(setup):
    assert "cannot be written by user" in setup.fails(CMS_SETUP_EXPECTED="/nonexistent/expected.json")
    assert "/nonexistent cannot be read by user" in setup.fails(CMS_SETUP_SECRETS="/nonexistent")
    assert "no schema files in /nonexistent" in setup.fails(SCHEMAS_DIR="/nonexistent")
