"""How a worker is made to finish: against a worker whose answers a test writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "files/compose/config/bin/worker-drain.py"
spec = importlib.util.spec_from_file_location("worker_drain", FILE)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


class Mailbox:
    """Answers commands; each task in `running` ends at a moment."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.running: dict[str, float] = {}
        self.queues = ["email", "app_ai"]
        self.silent_until = 0.0
        self.arrives: dict[str, float] = {}  # a task that had left its queue before the worker stopped consuming

    def call(self, destination: list[str], command: str, arguments: dict, timeout: float) -> list[dict]:
        if self.clock.now < self.silent_until:
            self.clock.now += timeout
            return []
        if command == "cancel_consumer":
            self.queues.remove(arguments["queue"])
            return [{destination[0]: {"ok": ""}}]
        if command == "active_queues":
            return [{destination[0]: [{"name": name} for name in self.queues]}]
        self.running |= {task: end for task, end in self.arrives.items() if self.clock.now >= end - 3}
        tasks = [
            {"id": task, "name": "app.chat", "time_start": 0}
            for task, end in self.running.items()
            if end > self.clock.now
        ]
        return [{destination[0]: tasks if command == "active" else []}]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    clock = Clock()
    times = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr(program, "time", times)
    return Mailbox(clock)


@pytest.fixture
def worker(mailbox: Mailbox):
    result = object.__new__(program.Worker)
    result.mailbox, result.name = mailbox, "celery@worker"
    return result


def wait(worker, seconds: float) -> list[dict]:
    return program.wait(worker, seconds, show=lambda *words, **options: None)


def test_it_consumes_no_queue_any_more(worker, mailbox: Mailbox) -> None:
    worker.stop_consuming()
    assert mailbox.queues == []


def test_an_idle_worker_is_not_waited_for(worker, mailbox: Mailbox) -> None:
    assert wait(worker, 370) == []
    assert mailbox.clock.now - 100 < 5


def test_running_tasks_are_waited_for(worker, mailbox: Mailbox) -> None:
    mailbox.running = {"a": 120.0, "b": 300.0}
    assert wait(worker, 370) == []
    assert mailbox.clock.now >= 300


def test_a_task_that_had_just_left_its_queue_is_waited_for(worker, mailbox: Mailbox) -> None:
    mailbox.arrives = {"late": 103.3}
    assert wait(worker, 370) == []
    assert mailbox.clock.now >= 103.3


def test_a_task_that_takes_longer_than_the_limit_is_reported(worker, mailbox: Mailbox) -> None:
    mailbox.running = {"a": 120.0, "b": 9999.0}
    [cut] = wait(worker, 60)
    assert (cut["id"], cut["name"]) == ("b", "app.chat")
    assert 60 <= mailbox.clock.now - 100 < 65


def test_an_answer_that_is_lost_is_asked_for_again(worker, mailbox: Mailbox) -> None:
    mailbox.silent_until = 110.0
    worker.stop_consuming()
    assert mailbox.queues == []


def test_a_worker_that_answers_nothing_is_an_error(worker, mailbox: Mailbox) -> None:
    mailbox.silent_until = 9999.0
    with pytest.raises(TimeoutError, match="does not answer active_queues"):
        worker.stop_consuming()
