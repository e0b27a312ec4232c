"""The program that replaces the api and workers, against containers whose life a test decides."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "roles/stack/files/rollout.py"
spec = importlib.util.spec_from_file_location("rollout_program", FILE)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

STEADY = 30
NEVER = 1e9
RUNNING = program.Host.running


class Killed(BaseException):
    """The program is killed at this moment."""


def started(since: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(since))


class World:
    """A host with a clock of its own. A container is known by its id; the test says how a new one behaves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wanted_definition = ("new", "sha256:new")
        self.found: list[dict] = []
        self.numbers = 0
        self.events: list[str] = []
        self.behaviour = {"ready_after": 10.0, "ends_after": NEVER, "ends_with_requests": False}
        self.half_started = False
        self.cut: list[dict] | None = []
        self.kill_at = NEVER
        self.removed_while_running: list[str] = []
        self.gate = FakeGate(self)
        self.engine = SimpleNamespace(healthy=lambda container: self.age(container) >= 10)

    def event(self, text: str) -> None:
        if len(self.events) >= self.kill_at:
            raise Killed
        self.events.append(text)

    def add(self, definition: tuple[str, str], **more: object) -> str:
        self.numbers += 1
        port = 8000 + (1 if any(entry["port"] == 8000 for entry in self.found) else 0)
        name = f"c{self.numbers}"
        entry = {
            "id": name,
            "definition": definition,
            "port": port,
            "since": self.now,
            "status": "running",
            "restarts": 0,
        }
        self.found.append(entry | {"ready_after": 0.0, "ends_after": NEVER} | more)
        return name

    def entry(self, container: str) -> dict:
        return next(entry for entry in self.found if entry["id"] == container)

    def age(self, container: str) -> float:
        return self.now - self.entry(container)["since"]

    def ready(self, container: str) -> bool:
        return self.age(container) >= self.entry(container)["ready_after"]

    def serves(self) -> bool:
        """Whether a request at this moment would be answered by an api that is ready."""
        up = [entry for entry in self.found if entry["status"] == "running"]
        if self.gate.names:
            up = [entry for entry in up if f"127.0.0.1:{entry['port']}" == sorted(self.gate.names)[0]]
        return bool(up) and self.ready(sorted(up, key=lambda entry: entry["port"])[0]["id"])

    # ---------------------------------------------------------------- what the program calls

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for entry in self.found:
            asked = entry.get("ends_with_requests") and f"127.0.0.1:{entry['port']}" in self.gate.names
            if self.now - entry["since"] >= entry["ends_after"] or asked:
                entry["restarts"] += 1

    def containers(self, service: str) -> list:
        return [self.inspect(entry["id"]) for entry in self.found]

    def inspect(self, container: str):
        entry = self.entry(container)
        ports = {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(entry["port"])}]}
        return program.Container(
            {
                "Id": entry["id"],
                "Image": entry["definition"][1],
                "RestartCount": entry["restarts"],
                "State": {"Status": entry["status"], "ExitCode": 0, "StartedAt": started(entry["since"])},
                "Config": {"Labels": {"com.docker.compose.config-hash": entry["definition"][0]}, "StopTimeout": 370},
                "NetworkSettings": {"Ports": ports, "Networks": {"openmates": {"IPAddress": "172.30.0.9"}}},
            }
        )

    def wanted(self, service: str) -> tuple[str, str]:
        return self.wanted_definition

    def start_second(self, service: str, present: list):
        self.event("start")
        return self.inspect(self.add(self.wanted_definition, **self.behaviour))

    def stop(self, container, seconds: int) -> bool:
        self.event(f"stop {container.id}")
        self.entry(container.id)["status"] = "exited"
        return True

    def kill(self, container) -> None:
        self.event(f"kill {container.id}")
        self.entry(container.id)["status"] = "exited"

    def restart(self, container) -> None:
        self.event(f"restart {container.id}")
        self.entry(container.id).update(status="running", since=self.now)

    def remove(self, container) -> None:
        self.event(f"remove {container.id}")
        if self.entry(container.id)["status"] == "running":
            self.removed_while_running.append(container.id)
        self.found = [entry for entry in self.found if entry["id"] != container.id]

    def log(self, container) -> str:
        return f"the log of {container.id}"

    def running(self, container):
        return RUNNING(self, container)


class FakeGate:
    """The gate's files, of which Caddy reads the first."""

    def __init__(self, world: World) -> None:
        self.world, self.names = world, set()

    def chosen(self) -> list[str]:
        return sorted(self.names)

    def only(self, upstream: str) -> None:
        self.world.event(f"only {upstream[-4:]}")
        self.names = {upstream}

    def clear(self) -> None:
        self.world.event("clear")
        self.names = set()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.add(("old", "sha256:old"))
    clock = SimpleNamespace(monotonic=lambda: world.now, sleep=world.sleep, strptime=time.strptime)
    monkeypatch.setattr(program, "time", clock)
    monkeypatch.setattr(program, "progress", lambda text: None)
    return world


def rollout(world: World):
    result = program.Rollout(world, world.gate, argparse.Namespace(ready_seconds=600.0, steady_seconds=STEADY))
    result.alive = lambda container: world.ready(container.id) or world.half_started

    def failing(container) -> dict[str, str]:
        if world.half_started and container.definition == world.wanted_definition:
            return {"initialisation": "Failed during critical service initialization"}
        return {} if world.ready(container.id) else {"collections": "not all are there"}

    result.failing = failing
    result.drain = lambda service, old, limit: (world.event(f"drain {old.id}"), world.cut)[1]
    return result


def test_the_new_api_gets_requests_when_it_was_ready_for_long_enough_and_only_then_the_old_one_stops(
    world: World,
) -> None:
    began = world.now
    moments = {}
    keep = world.event
    world.event = lambda text: (moments.setdefault(text, world.now - began), keep(text))
    result = rollout(world).api("api")
    assert world.events == ["only 8000", "start", "only 8001", "stop c1", "remove c1", "clear"]
    assert moments["only 8001"] >= world.behaviour["ready_after"] + STEADY
    assert moments["stop c1"] >= moments["only 8001"] + program.SETTLE
    assert moments["clear"] >= moments["remove c1"] + program.CADDY_NOTICES
    assert result["result"] == "replaced"
    assert [entry["definition"] for entry in world.found] == [world.wanted_definition]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"ready_after": NEVER}, "not ready within"),
        ({"ready_after": NEVER, "ends_after": 3.0}, "does not stay up"),
        ({"ready_after": 5.0, "ends_after": 15.0}, "does not stay up"),
        ({"ready_after": 5.0, "ends_after": 5.0 + STEADY}, "does not stay up"),
    ],
    ids=["never ready", "ends at its start", "ends after 10 s", "ends at the last moment"],
)
def test_an_api_that_cannot_be_used_gets_no_request(world: World, behaviour: dict, reason: str) -> None:
    world.behaviour |= behaviour
    with pytest.raises(program.Problem, match=reason) as problem:
        rollout(world).api("api")
    assert "only 8001" not in world.events
    assert not [event for event in world.events if event.startswith("stop")]
    assert [entry["id"] for entry in world.found] == ["c1"]
    assert not world.gate.names
    assert "the log of c2" in str(problem.value)


def test_an_api_that_started_incompletely_is_not_waited_for(world: World) -> None:
    world.half_started = True
    world.behaviour["ready_after"] = NEVER
    began = world.now
    with pytest.raises(program.Problem, match="critical service initialization"):
        rollout(world).api("api")
    assert world.now - began < 30 + program.CADDY_NOTICES


def test_an_api_that_ends_with_its_first_requests_loses_them_to_the_old_one(world: World) -> None:
    world.behaviour["ends_with_requests"] = True
    with pytest.raises(program.Problem, match="does not stay up"):
        rollout(world).api("api")
    assert world.events == ["only 8000", "start", "only 8001", "only 8000", "remove c2", "clear"]


def test_a_queue_that_was_dead_before_does_not_hold_the_api_back(world: World) -> None:
    replace = rollout(world)
    replace.failing = lambda container: {"queue:email": "no worker"}
    assert replace.api("api")["result"] == "replaced"


def test_what_already_is_as_declared_stays(world: World) -> None:
    world.wanted_definition = ("old", "sha256:old")
    assert rollout(world).api("api")["result"] == "unchanged"
    assert world.events == []


def test_another_image_of_the_same_tag_is_another_definition(world: World) -> None:
    world.wanted_definition = ("old", "sha256:new")
    assert rollout(world).api("api")["result"] == "replaced"


def test_containers_of_failed_attempts_are_removed(world: World) -> None:
    world.add(("other", "sha256:other"))
    world.add(world.wanted_definition, restarts=4)
    world.add(("other", "sha256:other"), status="exited")
    rollout(world).api("api")
    assert world.events[:5] == ["stop c2", "remove c2", "stop c3", "remove c3", "remove c4"]
    assert len(world.found) == 1


def test_a_worker_that_an_interrupted_run_has_left_finishes_its_tasks(world: World) -> None:
    world.found[0]["definition"] = world.wanted_definition
    world.add(("other", "sha256:other"))
    rollout(world).worker("task-worker")
    assert world.events == ["drain c2", "stop c2", "remove c2"]


def test_a_new_container_of_an_interrupted_run_is_used(world: World) -> None:
    world.add(world.wanted_definition)
    rollout(world).api("api")
    assert "start" not in world.events
    assert [entry["id"] for entry in world.found] == ["c2"]


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_moment_the_site_serves_and_the_next_run_converges(world: World, moment: int) -> None:
    def served(seconds: float) -> None:
        sleep(seconds)
        assert world.serves()

    sleep = world.sleep
    program.time.sleep = served
    world.kill_at = moment
    with pytest.raises(Killed):
        rollout(world).api("api")
    assert world.serves()
    world.kill_at = NEVER
    rollout(world).api("api")
    assert world.serves()
    assert [entry["definition"] for entry in world.found] == [world.wanted_definition]
    assert not world.gate.names
    assert not world.removed_while_running  # it may have had requests


def test_an_old_worker_stops_after_the_new_one_works_and_its_tasks_are_done(world: World) -> None:
    result = rollout(world).worker("task-worker")
    assert world.events == ["start", "drain c1", "stop c1", "remove c1"]
    assert result["cut"] == []


def test_a_worker_whose_tasks_take_too_long_is_killed_and_they_are_reported(world: World) -> None:
    world.cut = [{"id": "1", "name": "app.video", "seconds": 400}]
    result = rollout(world).worker("task-worker")
    assert world.events == [
        "start",
        "drain c1",
        "remove c1",
    ]  # a stop would give them back, to be dropped as duplicates
    assert result["cut"] == world.cut


def test_a_worker_that_does_not_work_replaces_none(world: World) -> None:
    world.behaviour["ends_after"] = 12.0
    with pytest.raises(program.Problem, match="the log of c2"):
        rollout(world).worker("task-worker")
    assert world.events == ["start", "remove c2"]


def test_a_service_that_does_not_run_is_not_replaced(world: World) -> None:
    world.found[0]["status"] = "exited"
    with pytest.raises(program.Problem, match="does not run"):
        rollout(world).api("api")


class Recorded:
    """Notes which upstreams are chosen at each change of the gate's directory."""

    def __init__(self, gate, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[list[str]] = []
        for name in ("touch", "unlink"):
            monkeypatch.setattr(Path, name, self.noting(getattr(Path, name), gate))

    def noting(self, method, gate):
        def noted(path, *arguments, **options):
            method(path, *arguments, **options)
            self.states.append(gate.chosen())

        return noted


def test_the_gate_names_an_upstream_at_each_moment_of_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = program.Gate(tmp_path / "openmates/gate")
    recorded = Recorded(gate, monkeypatch)
    for port in (8000, 8001, 8000, 8000):
        gate.only(f"127.0.0.1:{port}")
        assert gate.chosen() == [f"127.0.0.1:{port}"]
    assert all(recorded.states)
    gate.clear()
    assert gate.chosen() == []


def test_the_gate_can_be_read_by_caddy_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        program.Gate(tmp_path / "openmates/gate").only("127.0.0.1:8000")
    finally:
        os.umask(before)
    for directory in (tmp_path / "openmates", tmp_path / "openmates/gate"):
        assert directory.stat().st_mode & 0o777 == 0o755


def test_two_roll_outs_do_not_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "progress", lambda text: None)
    file = tmp_path / "openmates/rollout.lock"
    with program.alone(file, 1), pytest.raises(program.Problem, match="another roll-out"), program.alone(file, 0):
        pass
    with program.alone(file, 0):  # freed by the end of its holder
        pass


def test_a_result_is_one_json_object_per_service(world: World, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(program, "RUN", tmp_path)
    monkeypatch.setattr(program, "Host", lambda directory, project: world)
    monkeypatch.setattr(program, "Gate", lambda directory: world.gate)
    made = rollout(world)
    monkeypatch.setattr(program, "Rollout", lambda host, gate, options: made)
    monkeypatch.setattr("sys.argv", ["rollout.py", "--api=api"])
    assert program.main() == 0
    assert json.loads(capsys.readouterr().out)["result"] == "replaced"


# ---------------------------------------------------------------- before and after Docker or the server restarts


class Window:
    """Workers are drained, something happens to the host, and they are resumed."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.program = world, rollout(world)
        self.folder = folder

    def drain(self) -> dict:
        result = self.program.pause_worker("task-worker", program.Drained(self.folder))
        for file in self.folder.iterdir():
            os.utime(file, (self.world.now, self.world.now))
        return result

    def resume(self) -> dict:
        return self.program.resume_worker("task-worker", program.Drained(self.folder))


@pytest.fixture
def window(world: World, tmp_path: Path) -> Window:
    return Window(world, tmp_path / "drained")


def test_a_drained_worker_stays_and_takes_tasks_after_a_restart_of_its_own(world: World, window: Window) -> None:
    assert window.drain()["cut"] == []
    assert world.events == ["drain c1"]
    world.now += 60  # Docker was upgraded, and its containers kept running
    assert window.resume()["result"] == "resumed"
    assert world.events == ["drain c1", "restart c1"]
    assert window.resume()["result"] == "unchanged", "the next run"
    assert list(window.folder.iterdir()) == []


def test_a_worker_that_a_reboot_has_started_again_is_left_alone(world: World, window: Window) -> None:
    window.drain()
    world.now += 60
    world.entry("c1")["since"] = world.now
    assert window.resume()["result"] == "unchanged" and world.events == ["drain c1"]


def test_a_drain_does_not_let_a_worker_give_long_tasks_back(world: World, window: Window) -> None:
    world.cut = [{"id": "1", "name": "app.video", "seconds": 400}]
    assert window.drain()["cut"] == world.cut
    world.now += 60
    window.resume()
    assert world.events == ["drain c1", "kill c1", "restart c1"], "Docker does not start a killed one at boot"


def test_a_worker_that_an_operator_has_stopped_stays_stopped(world: World, window: Window) -> None:
    world.entry("c1")["status"] = "exited"
    window.folder.mkdir()
    window.drain()
    window.resume()
    assert world.events == []


def test_a_run_that_was_killed_in_a_drain_is_continued(world: World, window: Window) -> None:
    world.kill_at = 0
    with pytest.raises(Killed):
        window.drain()
    world.kill_at = NEVER
    world.now = time.time() + 5  # the file that the killed run has left has the time of this machine
    assert window.resume()["result"] == "resumed"
