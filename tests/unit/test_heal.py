"""The watcher that repairs services after an outage: when it probes, what it restarts, and what it does not."""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "roles/heal/templates/usr/local/lib/openmates/heal.py"
SERVICES = ["cms-database", "cache", "vault", "cms", "api", "task-worker", "task-scheduler"]
HEALTHY = "Up 2 hours (healthy)"
#: A connection to 172.30.0.9, port 6379, that was closed.
REFUSED = "   1: 02001EAC:8154 09001EAC:18EB 06 00000000:00000000 03:00000520 00000000     0        0 0 3 0\n"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("heal_program", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


class FakeHost:
    """A server whose state a test sets; records repairs."""

    def __init__(self, program) -> None:
        self.program = program
        self.status = dict.fromkeys(SERVICES, HEALTHY)
        self.cut_off: set[str] = set()
        self.failing: dict[str, str] = {}
        self.asked = True
        self.suspended = False
        self.started = 0.0
        self.reason_to_wait = ""
        self.queues = {"task-worker": ""}
        self.probes = self.questions = 0
        self.done: list[str] = []

    def containers(self) -> list:
        return [self.program.Container(name, name, status, "172.30.0.9") for name, status in self.status.items()]

    def events(self, since: float, until: float) -> list:
        return []

    def refused(self, containers) -> dict[str, bool | None]:
        return {}

    def silent(self, containers) -> set[str]:
        self.questions += 1
        return {container.service for container in containers} & self.cut_off

    def inspect(self, container) -> dict:
        service = container.service
        begun = datetime.fromtimestamp(self.started, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
        healthy = "healthy" if "(healthy)" in self.status[service] else "starting"
        worker = service in self.queues
        return {
            "State": {"StartedAt": begun, "Health": {"Status": healthy}},
            "Config": {
                "Cmd": ["celery", "-A", "x", "worker"] if worker else ["uvicorn"],
                "Env": [f"CELERY_QUEUES={self.queues[service]}"] if worker else [],
            },
        }

    def probe(self):
        self.probes += 1
        return self.program.Report(dict(self.failing), self.asked)

    def busy(self) -> str:
        return self.reason_to_wait

    def restart(self, container) -> None:
        self.done.append(f"restart {container.service}")

    def reactivate(self, _) -> bool:
        was, self.suspended = self.suspended, False
        return was

    def forget_rejection(self) -> None:
        self.done.append("forget rejection")

    def renew_token(self) -> None:
        self.done.append("renew token")


@pytest.fixture
def server(program):
    """The watcher of a server that has been healthy for hours, and its clock."""
    host = FakeHost(program)
    words: list[str] = []
    now = SimpleNamespace(time=1_000_000.0)
    host.started = now.time - 7200
    watcher = program.Watcher(host, words.append, lambda: now.time)

    def run(seconds: float, until: str = "") -> float:
        """Advance the clock in the program's rounds until a repair; returns the seconds."""
        begun = now.time
        while now.time - begun < seconds:
            watcher.round()
            now.time += 10
            if until and until in host.done:
                break
        return now.time - begun

    run(10)
    assert host.probes == 1, "a watcher that was started proves the state once"
    return SimpleNamespace(host=host, words=words, run=run, watcher=watcher, now=now)


def test_a_server_that_is_well_is_probed_every_ten_minutes_only(server) -> None:
    server.run(3600)
    assert server.host.probes == 7
    assert server.host.done == [] and server.words == []


def test_the_scheduler_and_the_workers_are_looked_at_for_a_refused_login(program, tmp_path, monkeypatch) -> None:
    """In the network of each one's process."""
    tables = {"task-scheduler": REFUSED, "task-worker": REFUSED.replace(" 06 ", " 01 ")}
    for number, text in enumerate(tables.values(), 1):
        (tmp_path / f"{number}/net").mkdir(parents=True)
        (tmp_path / f"{number}/net/tcp").write_text(text)
    monkeypatch.setattr(program, "PROC", tmp_path)
    host = program.Host(SimpleNamespace(project="openmates"))
    pids = {"task-scheduler": 1, "task-worker": 2, "app-ai-worker": 99}
    monkeypatch.setattr(host, "inspect", lambda container: {"State": {"Pid": pids[container.service]}})
    celery = "/bin/sh /openmates/with-secrets.sh celery -A backend.core.api.app.tasks.celery_config beat"
    containers = [
        program.Container("cache", "cache", HEALTHY, "172.30.0.9", "dragonfly"),
        program.Container("api", "api", HEALTHY, "172.30.0.2", "/bin/sh /openmates/with-secrets.sh uvicorn x"),
        *(program.Container(name, name, HEALTHY, "172.30.0.3", celery) for name in pids),
    ]
    assert host.refused(containers) == {"task-scheduler": True, "task-worker": False, "app-ai-worker": None}
    assert set(host.refused(containers[1:]).values()) == {None}, "without a cache there is nothing to refuse a login"


def test_a_disk_that_is_full_stops_the_metrics_and_not_the_repairs(server) -> None:
    written: list[set] = []

    def write(containers, unreachable, failing, refused, events, now) -> None:
        written.append({container.service for container in containers})
        raise OSError(28, "No space left on device")

    server.watcher.metrics = SimpleNamespace(write=write)
    server.host.status["api"] = "Up 2 hours (unhealthy)"
    server.run(600, until="restart api")
    assert server.host.done == ["restart api"] and written[0] == set(SERVICES)
    assert len([text for text in server.words if "No space left" in text]) == 1, "once, not in each round"


@pytest.mark.parametrize(
    "disturb",
    [
        lambda host: host.status.update({"task-worker": "Up 2 hours (unhealthy)"}),
        lambda host: host.status.update(api="Up 4 seconds (health: starting)"),
        lambda host: host.status.update(api="Restarting (137) 2 seconds ago"),
        lambda host: host.cut_off.add("cache"),
    ],
)
def test_a_sign_of_trouble_has_it_probe_at_once(server, disturb) -> None:
    disturb(server.host)
    server.run(20)
    assert server.host.probes == 2


def test_an_api_that_started_without_vault_is_restarted_when_vault_is_back(server) -> None:
    host = server.host
    host.status["api"] = "Up 5 seconds (health: starting)"
    host.failing = {"vault_token": "no answer", "transit": "no answer", "initialisation": "failed"}
    host.cut_off = {"vault"}
    server.run(300)
    assert host.done == [], "nothing helps while Vault is away"
    host.status["api"] = HEALTHY
    host.cut_off, host.failing = set(), {"initialisation": "failed"}
    assert server.run(180, "restart api") <= 70
    host.failing = {}
    server.run(70)
    assert server.words[-1] == "<5>The backend is ready again."


def test_an_api_that_still_starts_is_left_alone(server) -> None:
    host = server.host
    host.status["api"] = "Up 5 seconds (health: starting)"
    host.started, host.failing = server.now.time, {"initialisation": "failed"}
    server.run(200)
    assert host.done == []


def test_restarts_become_rarer_and_never_stop(server) -> None:
    host = server.host
    host.failing = {"initialisation": "failed"}
    host.status["api"] = "Up 3 minutes (healthy)"
    host.cut_off = {"cache"}
    server.run(20)
    host.cut_off = set()
    server.run(3600)
    first_hour = len(host.done)
    assert 4 <= first_hour <= 6, host.done
    server.run(6 * 3600)
    assert 10 <= len(host.done) - first_hour <= 14, "one in half an hour"


def test_the_suspended_account_is_activated_and_nothing_restarted(server) -> None:
    host = server.host
    host.suspended, host.failing = True, {"directus_login": "rejected (401)"}
    host.status["cache"] = "Up 2 hours (unhealthy)"
    server.run(120)
    assert host.suspended, "not while the cache is ill"
    host.status["cache"] = HEALTHY
    server.run(120)
    assert not host.suspended
    assert host.done == ["forget rejection"]


def test_a_wrong_password_is_no_reason_to_restart_directus(server) -> None:
    host = server.host
    host.failing = {"directus_login": "rejected (401): Invalid user credentials"}
    host.cut_off = {"cms"}
    server.run(20)
    host.cut_off = set()
    server.run(1800)
    assert host.done == []


def test_a_directus_that_accepts_no_login_is_restarted_after_a_while(server) -> None:
    host = server.host
    host.failing = {"directus_login": "timed out"}
    host.cut_off = {"cms"}
    server.run(20)
    host.cut_off = set()
    assert 90 <= server.run(180, "restart cms") <= 150


def test_a_dead_token_is_renewed_by_its_own_unit(server) -> None:
    server.host.failing = {"vault_token": "403", "transit": "403", "initialisation": "failed"}
    server.host.cut_off = {"vault"}
    server.run(20)
    server.host.cut_off = set()
    server.run(60)
    assert server.host.done == ["renew token"]


@pytest.mark.parametrize("part", ["collections", "fields", "transit", "vault_policy", "cache"])
def test_what_no_restart_changes_is_left_to_the_operator(server, part) -> None:
    server.host.failing = {part: "wrong", "initialisation": "failed", "queue:email": "no answer"}
    server.host.cut_off = {"cms"}
    server.run(20)
    server.host.cut_off = set()
    server.run(3600)
    assert server.host.done == []


def test_a_queue_without_a_worker_restarts_the_workers_of_that_queue(server) -> None:
    host = server.host
    host.status["app-ai-worker"] = HEALTHY
    host.queues = {"task-worker": "email,persistence", "app-ai-worker": "app_ai"}
    host.failing = {"queue:app_ai": "no answer"}
    host.cut_off = {"cache"}
    server.run(20)
    host.cut_off = set()
    assert server.run(300, "restart app-ai-worker") <= 120
    assert host.done == ["restart app-ai-worker"]


@pytest.mark.parametrize("part", ["queue:email", "directus_login"])
def test_a_part_that_the_probe_had_no_time_for_is_no_reason_to_restart(server, part) -> None:
    server.host.failing = {part: "no result within 15 s; its worker is task-worker"}
    server.run(1800)
    assert server.host.done == []


def test_a_worker_for_all_queues_counts_for_each(server) -> None:
    server.host.failing = {"queue:email": "no answer"}
    server.host.cut_off = {"cache"}
    server.run(20)
    server.host.cut_off = set()
    server.run(120)
    assert server.host.done == ["restart task-worker"]


def test_a_service_that_stays_unhealthy_while_all_it_needs_is_well_is_restarted(server) -> None:
    """The scheduler, which the probe does not cover."""
    server.host.status["task-scheduler"] = "Up 2 hours (unhealthy)"
    assert 180 <= server.run(300, "restart task-scheduler") <= 200
    assert server.host.done == ["restart task-scheduler"]


def test_a_service_with_an_unhealthy_dependency_is_not_restarted(server) -> None:
    host = server.host
    host.status["cms"] = host.status["cms-database"] = "Up 2 hours (unhealthy)"
    host.failing = {"directus_login": "timed out"}
    server.run(1800)
    assert host.done == []


@pytest.mark.parametrize("service", ["cms-database", "cache", "vault"])
def test_a_service_with_data_is_never_restarted(server, service) -> None:
    server.host.status[service] = "Up 2 hours (unhealthy)"
    server.host.failing = {"cache": "no answer", "vault_token": "no answer", "directus_login": "timed out"}
    server.run(3600)
    assert server.host.done == []


def test_nothing_is_done_while_compose_works_and_that_is_said_once(server) -> None:
    host = server.host
    host.failing, host.cut_off = {"initialisation": "failed"}, {"cache"}
    server.run(20)
    host.cut_off, host.reason_to_wait = set(), "docker compose is at work"
    server.run(600)
    assert host.done == []
    assert len([text for text in server.words if "would be restarted" in text]) == 1
    host.reason_to_wait = ""
    server.run(120)
    assert "restart api" in host.done


def test_a_stack_that_an_operator_stopped_stays_stopped(server) -> None:
    host = server.host
    for service in SERVICES:
        del host.status[service]
    server.run(3600)
    assert host.done == [] and host.probes == 1


@pytest.mark.parametrize("service", ["cms-database", "cache", "vault", "cms"])
def test_what_needs_a_service_that_an_operator_stopped_is_left_alone(server, service) -> None:
    host = server.host
    del host.status[service]
    host.failing = {"directus_login": "no answer from cms:8055", "vault_token": "no answer", "initialisation": "failed"}
    host.status["api"] = "Up 2 hours (unhealthy)"
    server.run(3600)
    assert host.done == []


def test_a_rejection_that_the_probe_could_not_forget_is_forgotten_later(server, program, monkeypatch) -> None:
    host = server.host
    host.failing, host.suspended = {"directus_login": "rejected at 09:00; not tried again"}, True

    def fail() -> None:
        host.done.append("tried")
        raise program.Trouble("another run is under way")

    with monkeypatch.context() as patch:
        patch.setattr(host, "forget_rejection", fail)
        server.run(700)
    server.run(1800)
    assert "tried" in host.done and host.done.count("forget rejection") == 1


def test_a_probe_that_cannot_ask_is_no_reason_to_restart(server) -> None:
    server.host.asked, server.host.failing = False, {"probe": "no container"}
    server.host.cut_off = {"cms"}
    server.run(20)
    server.host.cut_off = set()
    server.run(3600)
    assert server.host.done == []
    assert server.host.probes < 70, "it asks once a minute at most"


@pytest.mark.parametrize(
    ("status", "young"),
    [
        ("Up Less than a second", True),
        ("Up 9 seconds (health: starting)", True),
        ("Up About a minute (healthy)", True),
        ("Restarting (1) 5 seconds ago", True),
        ("Up 2 minutes (healthy)", False),
        ("Up About an hour (healthy)", False),
        ("Up 3 days", False),
    ],
)
def test_young_containers(program, status, young) -> None:
    assert program.Container("x", "api", status, "").young is young


@pytest.mark.parametrize(
    ("command", "environment", "queues"),
    [
        (["uvicorn", "app"], [], None),
        (["celery", "-A", "x", "beat"], [], None),
        (["celery", "-A", "x", "worker"], ["CELERY_QUEUES=a, b"], {"a", "b"}),
        (["celery", "-A", "x", "worker", "-Q", "a,b"], [], {"a", "b"}),
        (["celery", "-A", "x", "worker", "--queues=a"], [], {"a"}),
        (["celery", "-A", "x", "worker"], [], set()),
    ],
)
def test_queues_of_a_container(program, command, environment, queues) -> None:
    assert program.queues({"Config": {"Cmd": command, "Env": environment}}) == queues


@pytest.mark.parametrize(
    ("code", "output", "ready", "failing"),
    [
        (0, {"ready": True, "parts": [{"name": "cache", "ok": True, "detail": ""}]}, True, set()),
        (1, {"ready": False, "parts": [{"name": "cache", "ok": False, "detail": "refused"}]}, False, {"cache"}),
        (1, {"ready": False, "parts": []}, False, {"probe"}),
        (2, {"ready": False, "parts": []}, False, {"probe"}),
        (0, "not JSON", False, {"probe"}),
        (0, {"other": 1}, False, {"probe"}),
    ],
)
def test_results_of_the_probe(program, tmp_path, code, output, ready, failing) -> None:
    ready_program = tmp_path / "ready"
    text = output if isinstance(output, str) else json.dumps(output)
    ready_program.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    ready_program.chmod(0o755)
    report = program.Host(argparse.Namespace(ready=str(ready_program))).probe()
    assert report.ready is ready and set(report.failing) == failing


def test_a_probe_that_is_missing_is_no_crash(program, tmp_path) -> None:
    assert not program.Host(argparse.Namespace(ready=str(tmp_path / "none"))).probe().ready


@pytest.mark.parametrize(
    ("command", "busy"),
    [
        ("docker compose up --detach", True),
        ("/usr/libexec/docker/cli-plugins/docker-compose compose --file x.yml stop cms", True),
        ("docker --context default compose restart api", True),
        ("docker compose logs --follow api", False),
        ("/usr/libexec/docker/cli-plugins/docker-compose compose exec cms-database psql", False),
        ("docker run postgres", False),
    ],
)
def test_only_a_compose_that_changes_containers_is_waited_for(program, tmp_path, monkeypatch, command, busy) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cmdline").write_bytes(b"\0".join(word.encode() for word in command.split()) + b"\0")
    paths = SimpleNamespace(Path=lambda _: tmp_path)
    monkeypatch.setattr(program, "pathlib", paths)
    monkeypatch.setattr(program, "HOLD", tmp_path / "hold")
    assert bool(program.Host(argparse.Namespace()).busy()) is busy


def test_a_hold_is_respected_and_ends(program, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(program, "HOLD", tmp_path / "hold")
    host = program.Host(argparse.Namespace())
    assert "hold" not in host.busy()
    program.HOLD.touch()
    assert str(program.HOLD) in host.busy()
    monkeypatch.setattr(program, "HOLD_SECONDS", 0)
    assert "hold" not in host.busy()


def test_nothing_is_restarted_while_a_roll_out_is_under_way(program, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(program, "HOLD", tmp_path / "hold")
    monkeypatch.setattr(program, "ROLLOUT", tmp_path / "rollout.lock")
    host = program.Host(argparse.Namespace(project="none"))
    with (tmp_path / "rollout.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert host.busy() == "a roll-out is under way"
    assert host.busy() != "a roll-out is under way"


def test_well_services_are_asked_every_20_seconds_and_silent_ones_in_each_round(server) -> None:
    before = server.host.questions
    server.run(600)
    assert server.host.questions - before == 30
    server.host.cut_off = {"vault"}
    before = server.host.questions
    server.run(600)
    assert server.host.questions - before >= 59


@pytest.mark.parametrize("service", ["prometheus", "alertmanager"])
def test_what_alerts_go_through_is_restarted_soon_whatever_else_is_ill(server, service) -> None:
    server.host.status |= {"prometheus": HEALTHY, "alertmanager": HEALTHY, "cache": "Up 2 hours (unhealthy)"}
    del server.host.status["api"]
    server.host.cut_off = {service}
    assert 50 <= server.run(180, f"restart {service}") <= 90
    assert server.host.done == [f"restart {service}"]


def test_a_silent_service_of_monitoring_is_no_reason_to_probe_the_backend(server) -> None:
    server.host.status |= {"alertmanager": HEALTHY}
    server.host.cut_off = {"alertmanager"}
    server.run(300)
    assert server.host.probes == 1


def test_an_unhealthy_service_of_monitoring_is_restarted_while_the_database_is_ill(server) -> None:
    server.host.status |= {"loki": "Up 2 hours (unhealthy)", "cms-database": "Up 2 hours (unhealthy)"}
    server.run(300, "restart loki")
    assert server.host.done == ["restart loki"]
