"""openmates-ready on a host whose Docker is a script that answers from a file."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "roles/stack/files/openmates-ready.py"
spec = importlib.util.spec_from_file_location("openmates_ready", FILE)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

DOCKER = """#!{python}
import json, sys
from pathlib import Path
folder = Path({folder!r})
world = json.loads((folder / "world.json").read_text())
arguments = sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if world.get("down"):
    sys.exit(print("Cannot connect to the Docker daemon", file=sys.stderr) or 1)
if arguments[0] == "ps":
    api = "label=com.docker.compose.service=api" in arguments
    print("\\n".join(c["Id"] for c in world["containers"] if c["service"] == "api" or not api))
elif arguments[0] == "inspect":
    print(json.dumps([c for c in world["containers"] if c["Id"] in arguments]))
elif arguments[0] == "exec":
    print(world["answer"] if isinstance(world["answer"], str) else json.dumps(world["answer"]))
elif arguments[0] == "logs":
    since, until = (float(a.partition("=")[2]) for a in arguments if a.startswith(("--since", "--until")))
    for at, line in world["log"]:
        if since <= at < until:
            stamp = __import__("time").strftime("%Y-%m-%dT%H:%M:%S", __import__("time").gmtime(at))
            print(stamp + ".5Z " + line)
"""
FAILED = "CRITICAL main Failed during critical service initialization: Permission denied"
NAMES = ["directus_login", "collections", "fields", "vault_token", "vault_policy", "transit", "cache"]


def stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".123456789Z"


class Host:
    """A host with an api container whose parts are all ok."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.began = folder, time.time() - 300
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        (self.secrets / "DATABASE_ADMIN_PASSWORD").write_text("the-password")
        config = folder / "project/config/ready"
        config.mkdir(parents=True)
        queues = {"task-worker": ["email", "push"], "app-docs": ["app_docs"]}
        settings = {"health_path": "/v1/health", "queues": queues, "task_limits": {"app_docs": 0}}
        (config / "ready.json").write_text(json.dumps(settings))
        parts = [*NAMES, "queue:email", "queue:push", "queue:app_docs", "health"]
        self.world = {
            "containers": [self.container("new")],
            "answer": {"parts": [program.part(name, True, "fine") for name in parts], "login": "accepted"},
            "log": [[self.began + 1, "INFO starting"], [self.began + 9, "INFO started"]],
        }

    def container(self, name: str, state: str = "running", created: float = 0, **labels: str) -> dict:
        own = {"com.docker.compose.project.working_dir": str(self.folder / "project")}
        return {
            "Id": name,
            "service": "api",
            "Created": stamp(self.began + created),
            "Config": {"Labels": own | labels, "Env": ["DATABASE_ADMIN_EMAIL=admin@x", "OTHER=1"]},
            "Mounts": [{"Destination": "/run/secrets", "Source": str(self.secrets)}],
            "State": {"Status": state, "ExitCode": 3, "StartedAt": stamp(self.began)},
        }

    def fail(self, name: str, detail: str, login: str = "accepted") -> None:
        for entry in self.world["answer"]["parts"]:
            if entry["name"] == name:
                entry |= {"ok": False, "detail": detail}
        self.world["answer"]["login"] = login

    def look(self, forget: bool = False) -> dict:
        (self.folder / "world.json").write_text(json.dumps(self.world))
        return program.look(forget)

    def parts(self, forget: bool = False) -> dict[str, str]:
        """The failing parts with their details."""
        return {part["name"]: part["detail"] for part in self.look(forget)["parts"] if not part["ok"]}

    def calls(self, name: str) -> list[list[str]]:
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [call for call in calls if call[0] == name]


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    script = tmp_path / "bin/docker"
    script.parent.mkdir()
    script.write_text(DOCKER.format(python=sys.executable, folder=str(tmp_path)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(program, "STATE", tmp_path / "state/ready")
    monkeypatch.setattr(program, "DIRECTORY", str(tmp_path / "project"))
    return Host(tmp_path)


def test_a_ready_host(host):
    result = host.look()
    assert result["ready"] and result["asked"]
    assert [part["name"] for part in result["parts"]][-2:] == ["health", "initialisation"]
    (call,) = host.calls("exec")
    assert call[1:6] == ["new", "/bin/sh", "/openmates/with-secrets.sh", "python3", "/openmates/ready.py"]
    assert call[6:] == [
        "--queues",
        "email,push,app_docs",
        "--health-path",
        "/v1/health",
        "--task-limits",
        '{"app_docs": 0}',
    ]


def test_of_two_containers_the_one_that_gets_the_requests_is_asked_or_the_one_that_is_named(
    host, tmp_path, monkeypatch
):
    """The second one is that of a roll-out, and not ready yet."""
    ports = {"old": "8000", "new": "8001"}
    host.world["containers"] = [host.container("new", created=20), host.container("old")]
    for entry in host.world["containers"]:
        binding = {"HostIp": "127.0.0.1", "HostPort": ports[entry["Id"]]}
        entry["NetworkSettings"] = {"Ports": {"8000/tcp": [binding], "9000/tcp": None}}
    monkeypatch.setattr(program, "GATE", tmp_path / "gate")
    (tmp_path / "gate").mkdir()

    def asked(container: str = "") -> str:
        (host.folder / "world.json").write_text(json.dumps(host.world))
        program.look(False, container)
        return host.calls("exec")[-1][1]

    assert asked() == "new"
    (tmp_path / "gate/127.0.0.1:8000").touch()
    assert asked() == "old"
    assert asked("new") == "new"
    assert not program.look(False, "gone")["asked"]


def test_a_queue_names_the_service_that_should_consume_it(host):
    host.fail("queue:app_docs", "no worker answers that consumes it")
    assert host.parts() == {"queue:app_docs": "no worker answers that consumes it; its worker is app-docs"}


def test_without_workers_no_queue_is_asked_and_others_do_not_take_the_result(host):
    host.look()
    program.look(False, workers=False)
    assert host.calls("exec")[-1][6:8] == ["--queues", ""]
    last = program.Memory(program.STATE).data["last"]
    assert last["result"]["ready"] and len(host.calls("exec")) == 2
    assert last["began"] < time.time() and program.Memory(program.STATE).data["last"] == last


# ---------------------------------------------------------------- the login


def test_a_rejected_login_is_not_tried_again_until_the_credential_changes(host):
    host.fail("directus_login", "Directus rejects it", login="rejected")
    assert host.parts() == {"directus_login": "Directus rejects it"}
    host.world["answer"]["login"] = "not tried"
    for _ in range(2):
        host.look()
        call = host.calls("exec")[-1]
        reason = call[call.index("--skip-login") + 1]
        assert reason.startswith("rejected at 20") and "(Directus rejects it)" in reason
        assert "not tried again until the credential changes" in reason
    (host.secrets / "DATABASE_ADMIN_PASSWORD").write_text("another")
    host.look()
    assert "--skip-login" not in host.calls("exec")[-1]


def test_a_rejected_login_is_tried_again_on_request_and_forgotten_when_accepted(host):
    host.fail("directus_login", "Directus rejects it", login="rejected")
    host.look()
    host.look(forget=True)
    assert "--skip-login" not in host.calls("exec")[-1]
    host.look()
    assert "--skip-login" in host.calls("exec")[-1], "it was rejected once more"
    host.world["answer"]["login"] = "accepted"
    host.look(forget=True)
    host.look()
    assert "--skip-login" not in host.calls("exec")[-1]


def test_a_rejection_can_be_forgotten_by_what_removed_its_cause(host, run):
    host.fail("directus_login", "Directus rejects it", login="rejected")
    host.look()
    assert run("--forget") == (0, "")
    assert len(host.calls("exec")) == 1, "nothing is asked"
    host.look()
    assert "--skip-login" not in host.calls("exec")[-1]


@pytest.mark.parametrize("result", ["unanswered", "paused"])
def test_a_login_without_an_answer_is_tried_again_after_a_pause(host, result, monkeypatch):
    host.fail("directus_login", "no answer", login=result)
    host.look()
    host.look()
    assert "not tried again within 60 s" in host.calls("exec")[-1][-1]
    monkeypatch.setattr(program, "LOGIN_PAUSE", 0)
    host.look()
    assert "--skip-login" not in host.calls("exec")[-1]


def test_the_state_is_roots_alone_and_without_the_password(host):
    host.fail("directus_login", "Directus rejects it", login="rejected")
    host.look()
    folder = program.STATE
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    assert "the-password" not in (folder / "state.json").read_text()


def test_a_state_that_is_no_state_is_replaced(host):
    program.STATE.mkdir(parents=True)
    (program.STATE / "state.json").write_text("{broken")
    assert host.look()["ready"]
    json.loads((program.STATE / "state.json").read_text())


# ---------------------------------------------------------------- the log


def test_a_critical_failure_of_the_start_is_remembered_after_its_log_line_is_rotated(host):
    host.world["log"].append([host.began + 20, FAILED])
    expected = "Failed during critical service initialization: Permission denied"
    assert expected in host.parts()["initialisation"]
    host.world["log"] = []
    assert expected in host.parts()["initialisation"]
    assert len(host.calls("logs")) == 1
    host.world["containers"][0]["State"]["StartedAt"] = stamp(host.began + 200)
    host.world["log"] = [[host.began + 201, "INFO starting"]]
    assert host.parts() == {}, "another start is judged by its own log"


def test_each_part_of_the_log_is_read_once_and_only_that_of_the_start(host):
    host.look()
    host.look()
    first, second = host.calls("logs")
    assert float(second[2].partition("=")[2]) == pytest.approx(float(first[3].partition("=")[2]))
    program_end = host.began + program.START_SECONDS
    old = host.world["containers"][0]["State"]
    old["StartedAt"] = stamp(host.began - 10 * program.START_SECONDS)
    host.look()
    host.look()
    assert len(host.calls("logs")) == 3
    assert float(host.calls("logs")[2][3].partition("=")[2]) < program_end


def test_a_failure_that_comes_later_in_the_start_is_found(host):
    assert host.parts() == {}
    host.world["log"].append([time.time(), FAILED])
    assert "initialisation" in host.parts()


def test_a_log_that_was_rotated_away_unread_is_not_called_good(host):
    host.world["log"] = []
    entry = host.look()["parts"][-1]
    assert entry["detail"].startswith("not known")


# ---------------------------------------------------------------- containers


def test_the_newest_running_container_is_asked(host):
    host.world["containers"] = [
        host.container("old"),
        host.container("new", created=60),
        host.container("newest", state="created", created=90),
        host.container("run", created=120, **{"com.docker.compose.oneoff": "True"}),
    ]
    host.look()
    assert host.calls("exec")[-1][1] == "new"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda world: world["containers"][0]["State"].update(Status="exited"), "is exited, exit code 3"),
        (lambda world: world.update(containers=[]), "the api has no container"),
        (lambda world: world.update(down=True), "Cannot connect to the Docker daemon"),
        (lambda world: world.update(answer="Traceback"), "printed something else than its result: 'Traceback"),
    ],
)
def test_what_cannot_be_asked_is_red_part_by_part(host, change, words):
    change(host.world)
    result = host.look()
    assert not result["ready"] and not result["asked"]
    assert {part["name"] for part in result["parts"]} >= {*NAMES, "health", "initialisation"}
    assert all(not part["ok"] and "not asked: " in part["detail"] for part in result["parts"])
    assert all(words in part["detail"] for part in result["parts"])
    if "containers" in words or "container" in words:
        assert "queue:email" in {part["name"] for part in result["parts"]}


def test_without_its_settings_it_reports_the_remedy(host):
    (host.folder / "project/config/ready/ready.json").write_text("{}")
    assert "site.yml --tags stack" in host.parts()["cache"]


# ---------------------------------------------------------------- the command


@pytest.fixture
def run(host, monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str]:
        (host.folder / "world.json").write_text(json.dumps(host.world))
        monkeypatch.setattr(sys, "argv", ["openmates-ready", *arguments])
        monkeypatch.setattr(program.os, "geteuid", lambda: 0)
        return program.main(), capsys.readouterr().out

    return call


def test_the_exit_status_and_both_outputs(host, run, monkeypatch):
    code, output = run("--json")
    assert code == 0 and set(json.loads(output)) == {"ready", "maintenance", "parts"}
    host.fail("cache", "refuses")
    code, output = run()
    assert code == 1 and json.loads(output)["ready"] is False
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, output = run()
    assert code == 1 and output.startswith("NOT READY\n") and "\n  cache           FAILED  refuses\n" in output
    assert json.loads(run("--json")[1])["ready"] is False
    host.world["down"] = True
    assert run("--json")[0] == 2


@pytest.mark.parametrize(("takes", "begins"), [(1, [0, 10, 20, 30]), (8, [0, 13, 26])])
def test_waiting_asks_again_but_not_at_once(run, monkeypatch, takes, begins):
    clock, looks = [0.0], []

    class Time:
        monotonic = staticmethod(lambda: clock[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            clock[0] += seconds

    def look(forget: bool, _container: str, _workers: bool) -> dict:
        looks.append((clock[0], forget))
        clock[0] += takes
        return {"ready": False, "asked": True, "parts": [program.part("cache", False, "refuses")]}

    monkeypatch.setattr(program, "time", Time)
    monkeypatch.setattr(program, "look", look)
    assert run("--wait", "30", "--retry-login")[0] == 1
    assert [at for at, _ in looks] == begins
    assert [forget for _, forget in looks] == [True] + [False] * (len(looks) - 1), (
        "a login is tried once more, not often"
    )


def test_only_root_may_ask(host, run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["openmates-ready"])
    monkeypatch.setattr(program.os, "geteuid", lambda: 1000)
    assert program.main() == 2


def test_runs_that_wait_for_the_same_turn_are_one(host, monkeypatch):
    program.STATE.mkdir(parents=True)
    results, waiting, alone = [], [], program.alone
    monkeypatch.setattr(program, "alone", lambda folder: waiting.append(1) or alone(folder))
    with (program.STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = [threading.Thread(target=lambda: results.append(host.look())) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(waiting) < 2:
            assert all(thread.is_alive() for thread in threads)
        assert results == []
    for thread in threads:
        thread.join(30)
    assert [result["ready"] for result in results] == [True, True]
    assert len(host.calls("exec")) == 1, "the second takes what the first found out after the second had come"


def test_a_run_that_never_ends_does_not_block_the_others_for_ever(host, monkeypatch):
    monkeypatch.setattr(program, "LOCK_SECONDS", 0)
    program.STATE.mkdir(parents=True)
    with (program.STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another openmates-ready has been running" in host.parts()["cache"]
