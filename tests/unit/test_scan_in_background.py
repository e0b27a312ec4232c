"""A scan that runs while the play goes on, and when its result still holds at the end."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.action import outside_probe as action
from ansible_collections.openmates.server.plugins.lookup.changes import LookupModule
from ansible_collections.openmates.server.plugins.module_utils import tcp_scan
from ansible_collections.openmates.server.plugins.modules import outside_probe
from ansible_collections.openmates.server.plugins.plugin_utils.change import outcome
from test_outside_probe import listener, silent_port

ROOT = Path(__file__).parents[2]
PARAMETERS = {"expected": [], "timeout": 0.3, "concurrency": 256, "deadline": 30.0}
WEB: dict = {"web": [], "web_timeout": 5.0, "web_wait": 0.0}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    return tmp_path


def test_its_result_is_taken_later() -> None:
    with listener("127.0.0.1") as port:
        file = action.started({"addresses": ["127.0.0.1"], "ports": f"{port}", **PARAMETERS})
        parameters, found = action.finished(Path(file))
    assert (parameters["ports"], found["127.0.0.1"]["open"]) == (str(port), [port])


def test_its_end_is_waited_for() -> None:
    with silent_port() as (port, _):
        began = time.monotonic()
        file = action.started({"addresses": ["127.0.0.1"], "ports": str(port), **PARAMETERS})
        running = time.monotonic() - began
        found = action.finished(Path(file))[1]
        took = time.monotonic() - began
    assert running < took / 2, "it has not run in the background"
    assert found["127.0.0.1"]["silent"] == 1


def test_an_end_without_a_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_parameters: dict) -> dict:
        os.kill(os.getpid(), 9)
        return {}

    monkeypatch.setattr(outside_probe, "scan_ports", killed)
    with pytest.raises(RuntimeError, match="without a result"):
        action.finished(Path(action.started({"addresses": []})))


def test_what_stopped_it_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_parameters: dict) -> dict:
        raise RuntimeError("the scan of x ended")

    monkeypatch.setattr(outside_probe, "scan_ports", broken)
    with pytest.raises(RuntimeError, match="the scan of x ended"):
        action.finished(Path(action.started({"addresses": []})))


def test_all_ports_are_scanned_again_if_an_expected_one_has_opened_since() -> None:
    """A container that was still starting; and what has opened with it is found too."""
    with listener("127.0.0.1") as expected, listener("127.0.0.1") as other:
        parameters = {"addresses": ["127.0.0.1"], "ports": f"{expected},{other}", **PARAMETERS, "expected": [expected]}
        before = {"127.0.0.1": {"open": []}}
        found = outside_probe.probe_after(parameters, before, WEB)["addresses"]
    assert found["127.0.0.1"]["open"] == sorted([expected, other])


def test_all_ports_are_scanned_again_if_an_expected_one_has_closed_since() -> None:
    with listener("127.0.0.1", listens=False) as expected:
        parameters = {"addresses": ["127.0.0.1"], "ports": str(expected), **PARAMETERS, "expected": [expected]}
        before = {"127.0.0.1": {"open": [expected]}}
        found = outside_probe.probe_after(parameters, before, WEB)["addresses"]
    assert (found["127.0.0.1"]["open"], found["127.0.0.1"]["closed"]) == ([], 1)


def test_the_result_is_kept_if_the_expected_ports_are_as_they_were() -> None:
    with listener("127.0.0.1") as expected:
        parameters = {"addresses": ["127.0.0.1"], "ports": "1-65535", **PARAMETERS, "expected": [expected]}
        before = {"127.0.0.1": {"open": [7, expected]}}
        assert outside_probe.probe_after(parameters, before, WEB)["addresses"] is before


def test_random_ports_that_are_silent_at_first_are_tried_like_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[list[int], float]] = []

    def sweep(_self: object, ports: object, timeout: float) -> list[int]:
        tries.append((sorted(ports), round(timeout, 3)))
        return tries[-1][0]

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    seen = tcp_scan.scan("127.0.0.1", list(range(1, 101)), [], 0.3, 16, 10.0)
    (controls, short), (all_others, full) = tries[1:3]
    assert (len(controls), short, all_others, full) == (tcp_scan.CONTROLS, 0.3, list(range(1, 101)), 1.3)
    assert seen["silent"] == 100


# ---------------------------------------------------------------- what has changed since


@pytest.fixture
def callback() -> Iterator:
    spec = importlib.util.spec_from_file_location("changes", ROOT / "playbooks/callback_plugins/openmates_changes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.CallbackModule()
    outcome.OUTCOMES._count = None


def changes(host: str = "one") -> object:
    return LookupModule().run([], {"inventory_hostname": host})[0]


def result(host: str, changed: bool, action_name: str = "command") -> SimpleNamespace:
    task = SimpleNamespace(action=action_name, get_name=lambda: "the same name")
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: host), task=task, result={}, is_changed=lambda: changed
    )


def test_each_change_of_the_host_counts_and_no_other(callback) -> None:
    assert changes() == 0
    callback.v2_runner_on_ok(result("one", False))
    callback.v2_runner_on_ok(result("two", True))
    assert changes() == 0
    callback.v2_runner_on_ok(result("one", True))
    callback.v2_runner_on_ok(result("one", True))
    assert changes() == 2, "a task that changes something again has the same name"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_failed_task_may_have_changed_the_host(callback, ignored: bool) -> None:
    callback.v2_runner_on_failed(result("one", False), ignored)
    assert changes() == 1


def test_without_the_callback_nothing_is_taken_to_hold() -> None:
    outcome.OUTCOMES._count = None
    assert changes() != changes()


def test_the_scan_starts_after_the_firewall_is_in_force_and_before_what_takes_long() -> None:
    [play] = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    roles = [task.get("ansible.builtin.import_role", {}) for task in play["tasks"]]
    order = [(role.get("name"), role.get("tasks_from", "main")) for role in roles]
    assert order.index(("firewall", "main")) + 1 == order.index(("verify", "start")) < order.index(("docker", "main"))


@pytest.mark.parametrize(
    ("difference", "holds"),
    [
        ({}, True),
        ({"verify_scan": {"skipped": True}}, False),
        ({"verify_scan": {"scan": "/there/is/no/such/file", "changes": 0}}, False),
        ({"verify_scan": {"scan": str(ROOT), "changes": 1}}, False),
        ({"verify_ready": {"delta": "0:00:10.000001"}}, False),
        ({"verify_ready": {"delta": "0:02:01.000001"}}, False),
        ({"verify_ready": {"skipped": True}}, True),
        ({"verify_services": {"attempts": 2}}, False),
    ],
)
def test_a_scan_is_not_taken_if_the_server_may_be_another_since(callback, difference: dict, holds: bool) -> None:
    expression = yaml.safe_load((ROOT / "roles/verify/vars/main.yml").read_text())["verify_scan_holds"]
    given = {
        "inventory_hostname": "one",
        "verify_scan": {"scan": str(ROOT), "changes": 0},
        "verify_ready": {"delta": "0:00:01.234567"},
        "verify_services": {"attempts": 1},
    }
    assert Templar(DataLoader(), given | difference).template(trust_as_template(expression)) is holds


def test_the_role_scans_the_server_itself_if_the_scan_does_not_hold() -> None:
    tasks = yaml.safe_load((ROOT / "roles/verify/tasks/main.yml").read_text())
    # Imported tasks that are skipped would register that, in place of the result of the scan that holds.
    [number] = [n for n, task in enumerate(tasks) if task.get("ansible.builtin.include_tasks") == "start.yml"]
    assert tasks[number]["when"] == "not verify_scan_holds"
    assert "openmates.server.outside_probe" in tasks[number + 1]


def test_a_result_is_taken_once() -> None:
    file = action.started({"addresses": [], "ports": "1", **PARAMETERS})
    action.finished(Path(file))
    with pytest.raises(RuntimeError, match="without a result"):
        action.finished(Path(file))
