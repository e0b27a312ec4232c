"""The module status_info, part by part, against files, a fake Docker, a fake Vault and a real TLS server."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils.docker_api import DockerProblem
from ansible_collections.openmates.server.plugins.module_utils.status import (
    certificate,
    commands,
    containers,
    disks,
    runs,
    system,
    vault_server,
)
from ansible_collections.openmates.server.plugins.modules import status_info

DAY = 86400


def answer(stdout: str = "", rc: int = 0, stderr: str = "") -> Callable[..., dict]:
    return lambda *_, **__: {"rc": rc, "stdout": stdout, "stderr": stderr}


# --- containers ---------------------------------------------------------------------------------------------------

INSPECT = {
    "Id": "abc",
    "Created": "2026-11-27T13:20:00.5Z",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "ExitCode": 0,
        "OOMKilled": True,
        "Health": {"Status": "healthy"},
        "StartedAt": "2026-11-27T13:20:01.25Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Config": {"Image": "openmates/api:v1"},
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "Memory": 1000},
    "NetworkSettings": {"Networks": {"openmates": {"IPAddress": "172.30.0.9"}}},
}
STATS = {"memory_stats": {"usage": 700, "stats": {"inactive_file": 200}}}


class Engine:
    """Answers as Docker's engine does."""

    project = "openmates"

    def __init__(self, *listed: dict, gone: tuple = ()) -> None:
        self.listed, self.gone = listed, gone

    def call(self, method: str, path: str) -> object:
        assert method == "GET"
        if path.startswith("/containers/json"):
            assert "com.docker.compose.project%3Dopenmates" in path
            return list(self.listed)
        if path.split("/")[2] in self.gone:
            raise DockerProblem("No such container.")
        return STATS if "/stats" in path else INSPECT


def listed(identity: str, created: int, one_off: str = "False") -> dict:
    labels = {"com.docker.compose.service": "api", "com.docker.compose.oneoff": one_off}
    return {"Id": identity, "Created": created, "Labels": labels}


@pytest.fixture
def engine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker.pid").touch()
    monkeypatch.setattr(containers, "RUNNING", tmp_path / "docker.pid")


def test_containers_are_read_by_service(engine_runs: None) -> None:
    found, problem = containers.found(Engine(listed("old", 1), listed("new", 2), listed("run", 3, "True")))
    assert problem == "" and list(found) == ["api"] and len(found["api"]) == 2
    fact = found["api"][0]
    assert (fact["state"], fact["health"], fact["restarts"], fact["out_of_memory"]) == ("running", "healthy", 2, True)
    assert (fact["memory"], fact["memory_limit"], fact["finished"], fact["one_shot"]) == (500, 1000, None, False)
    assert fact["started"] - fact["created"] == 0.75


def test_a_container_that_is_removed_meanwhile_is_left_out(engine_runs: None) -> None:
    assert len(containers.found(Engine(listed("old", 1), listed("new", 2), gone=("old",)))[0]["api"]) == 1


def test_an_engine_that_does_not_run_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "RUNNING", tmp_path / "docker.pid")
    assert containers.found(None) == ({}, "Docker does not run")


@pytest.mark.parametrize(
    ("stats", "used"),
    [
        ({}, None),
        ({"usage": 9, "stats": {}}, 9),
        ({"usage": 9, "stats": {"total_inactive_file": 2, "inactive_file": 1}}, 7),
    ],
)
def test_memory_is_counted_as_docker_stats_does(stats: dict, used: int | None) -> None:
    assert containers.memory({"memory_stats": stats}) == used


# --- Vault, disks, certificate, system ----------------------------------------------------------------------------


class Vault(http.server.BaseHTTPRequestHandler):
    """A fake Vault: the class has the status of each path, and the token that it knows."""

    health, token = 200, "a-canary"

    def do_HEAD(self) -> None:
        self.send_response(self.health)
        self.end_headers()

    def do_GET(self) -> None:
        known = self.headers["X-Vault-Token"] == self.token
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"ttl": 123, "id": self.token}} if known else {}).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Vault]]:
    handler = type("Handler", (Vault,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api = vault_server.Api
    monkeypatch.setattr(vault_server, "Api", lambda _, seconds: api(f"http://127.0.0.1:{server.server_port}", seconds))
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("health", "state"), [(200, "active"), (501, "uninitialized"), (503, "sealed")])
def test_the_token_of_an_active_vault_is_read_and_not_returned(
    vault: type[Vault], tmp_path: Path, health: int, state: str
) -> None:
    (tmp_path / "token").write_text("a-canary\n")
    vault.health = health
    found = vault_server.found("172.30.0.14", tmp_path / "token")
    assert found["state"] == state and found["token_seconds"] == (123 if state == "active" else None)
    assert "a-canary" not in str(found)


def test_a_missing_and_a_refused_token_are_named(vault: type[Vault], tmp_path: Path) -> None:
    assert "is missing" in vault_server.found("172.30.0.14", tmp_path / "token")["token_problem"]
    (tmp_path / "token").write_text("another")
    assert "refuses the services' token" in vault_server.found("172.30.0.14", tmp_path / "token")["token_problem"]
    assert vault_server.found("", tmp_path / "token")["problem"] == "its container does not run"


def test_a_file_system_is_named_once() -> None:
    (disk,) = disks.found(["/", "/no/such/place", "/etc"], disks.prometheus(""))
    assert disk["path"] == "/" and 0 <= disk["percent"] <= 100 and disk["days_left"] is None


@pytest.mark.parametrize(
    ("now", "before", "days"), [(80.0, 100.0, 4), (80, 80, None), (90, 80, None), (None, 80, None), (80, None, None)]
)
def test_days_are_told_from_two_measurements_only(now: float | None, before: float | None, days: float | None) -> None:
    assert disks.days_left("/", lambda query: before if "offset" in query else now) == days


def test_a_served_certificate_is_read_without_trusting_it(tmp_path: Path) -> None:
    pair = ["-keyout", tmp_path / "key", "-out", tmp_path / "crt", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=a"]
    subprocess.run(["openssl", "req", "-x509", "-days", "5", *pair], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = http.server.HTTPServer(("127.0.0.1", 0), Vault)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.handle_request, daemon=True).start()
    found = certificate.found("api.example.com", port=server.server_port)
    server.server_close()
    assert found["problem"] == "" and abs(found["ends"] - time.time() - 5 * DAY) < 60
    assert "no answer with a certificate" in certificate.found("api.example.com", port=server.server_port)["problem"]


SIMULATED = """\
Inst libc6 [2.41-12] (2.41-13 Debian:13.2/stable [amd64])
Inst openssl [3.5.1] (3.5.2 Debian:13.2/stable, Debian-Security:13/stable-security [amd64]) []
Inst new-one (1.0 Debian:13.2/stable [all])
Conf libc6 (2.41-13 Debian:13.2/stable [amd64])
"""


def test_updates_are_counted() -> None:
    assert system.updates(answer(SIMULATED)) == {"packages": 3, "security": 1, "problem": ""}
    assert system.updates(answer(rc=100, stderr="E: The list\nis damaged"))["problem"] == "E: The list is damaged"


def test_failed_units_and_a_reboot_are_read(tmp_path: Path) -> None:
    assert system.failed_units(answer("a.service loaded failed failed A\nb.timer loaded failed failed B\n")) == [
        "a.service",
        "b.timer",
    ]
    assert system.reboot(tmp_path) == {"required": False, "packages": []}
    (tmp_path / "reboot-required").touch()
    (tmp_path / "reboot-required.pkgs").write_text("libc6\nlinux\nlibc6\n")
    assert system.reboot(tmp_path) == {"required": True, "packages": ["libc6", "linux"]}


@pytest.mark.parametrize("group", ["/docker/{}", "/system.slice/docker-{}.scope"])
def test_a_container_in_which_the_kernel_killed_for_memory_is_found(group: str) -> None:
    place = group.format("0a" * 32)
    line = f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg={place},task_memcg={place},task=a,pid=9\n"
    logged = line + "oom-kill:constraint=CONSTRAINT_NONE,task=x\n"
    said = {"journalctl": logged, "docker": "0a0a\n0b0b\n0b0b\n"}
    found = system.killed_containers(lambda program, *_: {"rc": 0, "stdout": said[program], "stderr": ""})
    assert found == ["0a0a", "0a" * 32, "0b0b"]


# --- runs ---------------------------------------------------------------------------------------------------------


def test_the_run_that_holds_the_lock_is_told_without_trying_the_lock(tmp_path: Path) -> None:
    history, lock = tmp_path / "history", tmp_path / "lock"
    history.write_text('{"verb": "site"}\nhalf a li\n')
    lock.write_text('{"verb": "deploy"}')
    assert runs.found(history, lock) == {"ended": [{"verb": "site"}], "running": {}}, "left by a killed run"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert runs.found(history, lock)["running"] == {"verb": "deploy"}
    assert runs.found(tmp_path / "none", tmp_path / "none") == {"ended": [], "running": {}}


# --- the module ---------------------------------------------------------------------------------------------------


def test_a_program_that_is_missing_is_a_result() -> None:
    assert commands.run("/no/such/program") == {
        "rc": 127,
        "stdout": "",
        "stderr": "/no/such/program cannot be run: No such file or directory",
    }
    assert commands.run("cat", text="x")["stdout"] == "x"


def test_a_host_with_nothing_on_it_is_no_error(
    run_module: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "RUNNING", tmp_path / "docker.pid")
    for name in ("FLAG", "HISTORY", "LOCK"):
        monkeypatch.setattr(status_info, name, tmp_path / name)
    for name in ("READY", "BACKUP"):
        monkeypatch.setattr(status_info, name, os.fspath(tmp_path / name))
    found = run_module(status_info.main, project_src=str(tmp_path), backups=True, check=True)
    assert not found["changed"] and found["services_problem"] == "Docker does not run"
    assert found["vault"]["problem"] == "its container does not run" and found["certificate"] == {}
    assert found["ready"]["rc"] == found["backup"]["rc"] == 127 and found["maintenance"] is None
    assert found["disks"][0]["path"] == "/" and found["runs"] == {"ended": [], "running": {}}
