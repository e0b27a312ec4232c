"""ready.py's parts `cache` and `queue:<name>` against a real cache and a real worker."""

from __future__ import annotations

import pytest
from cell import NAME, docker, wait_until

FREE = "2 of 2 processes free and does no task"


@pytest.fixture(scope="module")
def worker(cell):
    with cell.worker():
        yield


def test_each_queue_answers_cheaply_and_nothing_is_left_in_the_cache(cell, worker):
    before = cell.stored()
    found = cell.probe("--queues", "email,push")
    for name in ("cache", "queue:email", "queue:push"):
        assert found["parts"][name][0], found
    assert found["cpu"] < 1
    assert cell.stored() == before


def test_a_queue_without_a_worker_is_red_and_does_not_come_into_being(cell, worker):
    found = cell.probe("--queues", "email,nowhere")
    assert found["parts"]["queue:email"][0]
    assert found["parts"]["queue:nowhere"] == [False, "no worker answers that consumes it"]
    assert found["cpu"] < 1 and found["wall"] < 15
    assert not any("nowhere" in key or "reply" in key for key in cell.stored()), "messages would pile up with each call"


def test_a_wrong_password_of_the_cache(cell, worker):
    found = cell.probe("--queues", "email", password="wrong")
    assert not found["parts"]["cache"][0] and "refuses the api's password" in found["parts"]["cache"][1]
    assert found["parts"]["queue:email"] == [False, "not asked: the cache cannot be used"]


def test_a_busy_worker_is_not_dead_unless_it_is_busy_for_too_long(cell, worker):
    cell.send(25, 2)
    wait_until(lambda: cell.running() == 2, "both processes are occupied")
    ok, detail = cell.probe("--queues", "email")["parts"]["queue:email"]
    assert ok and "runs 2 tasks" in detail
    ok, detail = cell.probe("--queues", "email", "--task-limits", '{"email": 3}')["parts"]["queue:email"]
    assert not ok and "has run sleep for" in detail
    wait_until(lambda: cell.running() == 0, "the tasks have ended")
    assert cell.probe("--queues", "email")["parts"]["queue:email"][0]


def test_a_long_queue_that_moves_is_not_dead(cell, worker):
    cell.send(0.2, 100)
    ok, detail = cell.probe("--queues", "email")["parts"]["queue:email"]
    assert ok and ("busy" in detail or "is working" in detail)
    wait_until(lambda: cell.running() == 0 and cell.cache("llen", "email") == "0", "the queue is empty")


def test_a_frozen_and_a_stopped_worker(cell, worker):
    docker("pause", f"{NAME}-worker")
    try:
        assert not cell.probe("--queues", "email")["parts"]["queue:email"][0]
    finally:
        docker("unpause", f"{NAME}-worker")
    wait_until(lambda: cell.probe("--queues", "email")["parts"]["queue:email"][0], "it works again")
    docker("stop", f"{NAME}-worker")
    assert cell.probe("--queues", "email,push")["parts"]["queue:push"] == [False, "no worker answers that consumes it"]
    assert cell.cache("llen", "email") == "0"


def test_a_worker_whose_processes_never_start_is_dead_although_it_answers_pings(cell, worker):
    docker("rm", "--force", f"{NAME}-worker")
    with cell.worker(initialisation=6):  # longer than worker_proc_alive_timeout, which counts for replacements
        assert wait_until(lambda: cell.probe("--queues", "email")["parts"]["queue:email"][0], "the first ones come up")
        kill = "import os\nfor p in os.listdir('/proc'):\n if p.isdigit() and int(p) > 1 and int(p) != os.getpid(): "
        docker("exec", f"{NAME}-worker", "python3", "-c", kill + "os.kill(int(p), 9)")
        wait_until(lambda: cell.log().count("Timed out waiting for UP message") > 1, "no process comes up")
        ping = "from application import app; print(app.control.ping(timeout=5))"
        assert "pong" in docker("exec", f"{NAME}-worker", "python3", "-c", ping)
        ok, detail = cell.probe("--queues", "email")["parts"]["queue:email"]
        assert not ok and FREE in detail
