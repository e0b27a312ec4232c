"""compose_wait: which one-shots it waits for, and what it shows of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.action import compose_wait as plugin


def service(one_shot: bool, state: str) -> dict:
    return {"one_shot": one_shot, "state": state}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Action(plugin.ActionModule):
    """The plugin on a host whose one-shot ends after so many seconds."""

    def __init__(self, clock: Clock, ends: float, check_mode: bool = False, **arguments: object) -> None:
        self.clock, self.ends, self.looks = clock, ends, 0
        self._task = SimpleNamespace(check_mode=check_mode, args={"project_src": "/opt/x", **arguments})

    def validate_argument_spec(self, spec: dict) -> tuple[None, dict]:
        return None, {name: self._task.args.get(name, option.get("default")) for name, option in spec.items()}

    def _execute_module(self, **_: object) -> dict:
        self.looks += 1
        state = "running" if self.clock.now < self.ends else "exited"
        return {"services": {"cms-setup": service(True, state), "cms": service(False, "running")}, "problem": ""}

    def _low_level_execute_command(self, command: str) -> dict:
        assert command.startswith("cd /opt/x && docker compose") and command.endswith("cms-setup")
        return {"stdout": f"Made field a.b\ncms-setup: pass 1: {self.clock.now:.0f} files\nMade field a.c\n"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=lines.append))
    monkeypatch.setattr(plugin.ActionBase, "run", lambda *_: {})
    return lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(plugin, "time", clock)
    return clock


def test_it_waits_and_shows_the_one_shots_progress(clock, shown):
    result = Action(clock, ends=100).run(task_vars={"inventory_hostname": "prod1"})
    assert result["services"]["cms-setup"]["state"] == "exited" and 100 <= result["waited"] < 106
    assert shown[0].startswith("[prod1] cms-setup, after 1") and "s: pass 1: 1" in shown[0]
    assert 6 <= len(shown) <= 9, "no twenty seconds without a line"


def test_what_has_ended_is_not_waited_for(clock, shown):
    assert Action(clock, ends=0).run()["waited"] == 0
    assert shown == []


def test_it_stops_at_its_timeout_and_reports_what_still_runs(clock, shown):
    result = Action(clock, ends=1000, timeout=30).run()
    assert result["services"]["cms-setup"]["state"] == "running" and 30 <= result["waited"] < 36


def test_check_mode_waits_for_nothing(clock, shown):
    action = Action(clock, ends=1000, check_mode=True)
    assert action.run()["waited"] == 0 and action.looks == 1


def test_progress_is_the_last_own_line_else_the_last_one():
    assert plugin.progress("vault-setup", "a\nvault-setup: b\nc\n") == "b"
    assert plugin.progress("vault-setup", "a\nb\n\n") == "b"
    assert plugin.progress("vault-setup", "") == "no output so far"
