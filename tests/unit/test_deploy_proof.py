"""make deploy-proof: what its cases conclude from what was measured; its broken projects really lack a step."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = [str(TESTS / "load"), str(TESTS / "faults"), str(TESTS.parent / "lab")]


def _load(*names: str) -> list:
    """The runner's modules, under their own names; other runners have a `run`, too."""
    sys.modules.pop("run", None)
    sys.path[:0] = FOLDERS
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        for folder in FOLDERS:
            sys.path.remove(folder)
        sys.modules.pop("run", None)


load, tasks, proof, without, cases, runner, backup = _load(
    "load", "tasks", "proof", "without", "cases", "run", "backup"
)


def measured(**changes: object) -> dict:
    """What the load generator reports of a run in which nothing failed."""
    closes = {"closed": {"1012": 10}, "unclean": 0}
    return {
        "requests": 9000,
        "failed": 0,
        "outage_seconds": 0,
        "milliseconds": {"p99": 20.5},
        "websockets": closes,
    } | changes


def test_the_cases_are_those_of_the_agreement() -> None:
    """Typed in from the issue: seven cases, the comparison, tasks that are cut, three steps left out, ten moments."""
    seven = {"deploy", "rollback", "image-exits", "never-ready", "fails-when-ready", "token", "cache-password"}
    rest = {"compose", "cut", "without-drain", "without-readiness", "without-pull"}
    killed = {case for case in cases.CASES if case.startswith("killed-")}
    assert len(killed) == 10
    assert set(cases.CASES) == seven | rest | killed
    assert set(cases.CASES) >= cases.FROM_INVENTORY | cases.LEAVES_OTHERS


def test_a_backup_that_slows_down_the_api_or_fails_a_request_fails() -> None:
    quiet = measured(milliseconds={"p99": 10})
    for result, passes in (
        (measured(milliseconds={"p99": 11}), True),
        (measured(milliseconds={"p99": 11.2}), False),
        (measured(milliseconds={"p99": 9}, failed=1), False),
    ):
        noisy = measured(milliseconds={"p99": 90})
        assert backup.judged([(result, quiet), (result, quiet), (noisy, quiet)])[0] == passes
    assert backup.judged([(measured(), measured())])[1] == "p99 x 1.00 (20 -> 20 ms), 0 of 18000 requests failed"


def test_a_failed_request_or_a_websocket_that_was_cut_is_harm() -> None:
    assert proof.unharmed(measured())
    assert not proof.unharmed(measured(failed=1))
    assert not proof.unharmed(measured(requests=0))
    assert not proof.unharmed(measured(websockets={"closed": {"None": 1}, "unclean": 1}))
    assert "0 of 9000 requests failed" in proof.seen(measured()) and "10 with 1012" in proof.seen(measured())


def test_what_a_run_announces_is_read_from_its_output() -> None:
    output = """
    - 'api is replaced beside the running one: its definition has changed. It interrupts
        nothing.'
    - 'cache restarts: its definition has changed. It interrupts sessions and tasks, and so
        most requests, for up to 120 s.'
    - 'task-scheduler restarts: its definition has changed. No user notices.'
    - 'cms restarts: its definition has changed. It interrupts logins, for up to 60
        s.'
    """
    assert proof.announced(" ".join(output.split())) == {"cache": 120, "cms": 60}


def test_a_task_is_lost_done_twice_or_not_dropped() -> None:
    sent = {"a": 0.1, "b": 5.0, "c": 20.0}
    good = tasks.result(sent, {"a": 1, "b": 1, "c": 1}, ["a"])
    assert proof.tasks_unharmed(good)
    assert not proof.tasks_unharmed(tasks.result(sent, {"a": 1, "b": 1, "c": 0}, ["a"]))
    assert not proof.tasks_unharmed(tasks.result(sent, {"a": 1, "b": 2, "c": 1}, ["a"]))
    assert not proof.tasks_unharmed(tasks.result(sent, {"a": 2, "b": 1, "c": 1}, ["a"]))  # run again, not dropped
    assert not proof.tasks_unharmed(tasks.result(sent, {"a": 1, "b": 1, "c": 1}, []))  # none was delivered again
    assert "lost: those of 20 s" in proof.tasks_seen(tasks.result(sent, {"a": 1, "b": 1, "c": 0}, ["a"]))


def test_a_task_keeps_its_id_when_it_is_sent_again() -> None:
    published = []
    messages = SimpleNamespace(
        as_task_v2=lambda task, name, args: SimpleNamespace(body=task, headers={}, properties={})
    )
    producer = SimpleNamespace(publish=lambda body, **options: published.append((body, options["routing_key"])))
    counted = SimpleNamespace(mget=lambda keys: [b"1" for _ in keys])
    sender = tasks.Tasks(producer, SimpleNamespace(amqp=messages), counted)
    assert sender.counts() == {}
    sender.send(0.1)
    [task] = sender.sent
    sender.send(0.1, task)
    assert published == [(task, "health_check")] * 2 and sender.counts() == {task: 1}


@pytest.mark.parametrize("step", without.STEPS)
def test_each_step_is_found_and_left_out(step: str) -> None:
    for file, _, _ in without.STEPS[step]:
        before = (without.ROOT / file).read_text()
        assert without.left_out(step, before, file) != before
        with pytest.raises(LookupError, match=file):
            without.left_out(step, "the step was moved elsewhere", file)


@pytest.mark.parametrize("step", without.STEPS)
def test_what_is_left_is_still_a_program_or_a_playbook(step: str) -> None:
    import yaml

    for file, _, _ in without.STEPS[step]:
        text = without.left_out(step, (without.ROOT / file).read_text(), file)
        compile(text, file, "exec") if file.endswith(".py") else yaml.safe_load(text)


def test_a_copy_differs_from_the_project_in_that_step_alone(tmp_path: Path) -> None:
    tree = without.copy("pull", tmp_path / "copy")
    changed = {file for file, _, _ in without.STEPS["pull"]}
    for file in [*changed, "playbooks/site.yml", "roles/stack/files/rollout.py", "ansible.cfg"]:
        assert ((tree / file).read_text() != (without.ROOT / file).read_text()) == (file in changed), file
    assert (tree / "collections/ansible_collections/openmates/server/roles").resolve() == tree / "roles"


@pytest.mark.parametrize(
    ("passed", "detail", "shown"),
    [(False, "10 with None", True), (True, "10 with 1012", False), (False, "the host does not answer", False)],
)
def test_a_case_without_a_step_has_to_fail_with_its_symptom(passed, detail, shown, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(without, "copy", lambda step, destination: destination)
    monkeypatch.setattr(cases.dataclasses, "replace", lambda proof, tree: SimpleNamespace(tree=tree))
    case = cases.lacking("drain", lambda proof: (passed, detail), lambda text: "with None" in text)
    assert case(SimpleNamespace(folder=tmp_path))[0] is shown


def test_the_longest_time_without_a_dependency_is_between_two_moments_at_which_it_was_there() -> None:
    results = load.Results()
    results.now = lambda: 100.0
    results.seen = {"cache": [2.0, 4.0, 60.0, 62.0, 99.0], "directus": []}
    assert results.longest_away() == {"cache": 56.0, "directus": 100.0}
    assert results.summary()["longest_away"]["cache"] == 56.0


def test_dependencies_are_watched_beside_the_load() -> None:
    """Against a server that has no cache at first; a chunked answer is read as well as one with a length."""
    answers = iter([False, True, True])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /sample/dependencies ")
        body = json.dumps({"ok": True, "checks": {"cache": {"ok": next(answers, True)}}}).encode()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        writer.close()

    async def watch(monkeypatch: pytest.MonkeyPatch) -> list[float]:
        monkeypatch.setattr(load, "WATCH_EVERY", 0.05)
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = argparse.Namespace(plain=True, address="127.0.0.1", port=port, host="api.example.test")
        client = load.Client(options, load.Results())
        task = asyncio.create_task(client.watch(["cache"]))
        await asyncio.sleep(0.4)
        task.cancel()
        server.close()
        return client.results.seen["cache"]

    with pytest.MonkeyPatch.context() as monkeypatch:
        moments = asyncio.run(watch(monkeypatch))
    assert moments and moments[0] >= 0.05


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> tuple[object, list[str]]:
    """A runner of cases that do nothing, and what it does beside them."""
    done: list[str] = []
    stub = SimpleNamespace(converged=False, made=False)
    stub.converge = lambda: (done.append("converge"), setattr(stub, "converged", True))
    stub.make_versions = lambda: setattr(stub, "made", True)

    def case(proof: SimpleNamespace) -> tuple[bool, str]:
        proof.converged = False
        return True, ""

    monkeypatch.setattr(runner, "CASES", {name: case for name in cases.CASES})
    return runner.Runner(stub), done


def test_the_server_is_converged_where_a_case_could_not_begin(used) -> None:
    run, done = used
    for name in ("token", "deploy", "rollback"):  # each begins with what the one before has left
        assert run.run(name) == (True, "")
    assert done == ["converge"]
    for name in ("compose", "deploy", "deploy"):
        run.run(name)
    assert done == ["converge"] * 3  # before and after `docker compose up`


def test_the_server_is_converged_after_a_case_that_failed(used, monkeypatch) -> None:
    run, done = used
    monkeypatch.setitem(runner.CASES, "deploy", lambda proof: (False, "2 of 9000 requests failed"))
    run.run("deploy")
    run.run("rollback")
    assert len(done) == 2


def test_a_case_that_could_not_be_done_has_failed(used, monkeypatch) -> None:
    def case(proof: object) -> tuple[bool, str]:
        raise runner.MomentMissed("the run ended before")

    monkeypatch.setitem(runner.CASES, "deploy", case)
    passed, detail = used[0].run("deploy")
    assert not passed and "the run ended before" in detail
