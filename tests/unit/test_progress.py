"""Long steps show what they do: the lines of parallel parts, a task that runs, and a test that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.callback.progress import Running

ROOT = Path(__file__).resolve().parents[2]
PREFIXED = ROOT / "lab/progress.py"
PRINTS = "import time; print('now'); time.sleep(9)"


@pytest.fixture(autouse=True)
def _failures_of_its_own(monkeypatch) -> None:
    """`make test` collects the real parts' failures in the directory that this variable names."""
    monkeypatch.delenv("FAILURES", raising=False)


# --- lab/progress.py: a part's lines ----------------------------------------------------------------------------------


def prefixed(*command: str, silence: float | None = None) -> subprocess.CompletedProcess:
    """Run a command through the script; with `silence`, the seconds after which it says that the command runs."""
    program = [sys.executable, str(PREFIXED)]
    if silence is not None:
        load = f"import sys; sys.path.insert(0, {str(PREFIXED.parent)!r}); import progress; "
        program = [sys.executable, "-c", f"{load}sys.exit(progress.main(sys.argv[1:], sys.stdout.buffer, {silence}))"]
    return subprocess.run([*program, "part", *command], capture_output=True, text=True, timeout=30, check=False)


def test_every_line_has_the_parts_name_in_front() -> None:
    done = prefixed("sh", "-c", "echo one; echo two >&2; printf three")
    assert done.stdout.splitlines() == ["[part] one", "[part] two", "[part] three"]


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)])
def test_the_exit_status_survives(command: str, status: int) -> None:
    assert prefixed("sh", "-c", command).returncode == status


def test_a_command_that_cannot_be_started_fails() -> None:
    done = prefixed("no-such-program")
    assert done.returncode == 1 and "no-such-program: No such file" in done.stderr


@pytest.mark.parametrize("command", [["sh", "-c", "echo now; sleep 9"], ["python3", "-c", PRINTS]])
def test_lines_come_when_they_are_printed(command: list[str]) -> None:
    command = [sys.executable, str(PREFIXED), "part", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        began = time.monotonic()
        assert process.stdout is not None and process.stdout.readline() == "[part] now\n"
        assert time.monotonic() - began < 8
        process.terminate()


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (
            "a.py::b FAILED [ 2%]\nE    assert 1 == 2\n\x1b[31mFAILED\x1b[0m test_a.py::b - x\nExecuted: Successful\n",
            "E    assert 1 == 2\nFAILED test_a.py::b - x\n",
        ),
        ("TASK [a]\nfatal: [prod1]: FAILED! => \nPLAY RECAP\n", "fatal: [prod1]: FAILED! => \n"),
        ("one\ntwo\n", "one\ntwo\n"),
    ],
    ids=["pytest", "ansible", "anything else"],
)
def test_what_failed_is_kept_for_the_end(tmp_path: Path, monkeypatch, printed: str, kept: str) -> None:
    monkeypatch.setenv("FAILURES", str(tmp_path / "failures"))
    assert prefixed("sh", "-c", 'printf %s "$0"', printed).returncode == 0
    assert not (tmp_path / "failures").exists()
    assert prefixed("sh", "-c", 'printf %s "$0"; exit 3', printed).returncode == 3
    assert (tmp_path / "failures/part").read_text() == kept


def test_a_silent_command_is_reported_as_running() -> None:
    done = prefixed("sh", "-c", "sleep 1; echo end", silence=0.3)
    assert "[part] ... still running, 0:00 min" in done.stdout and done.stdout.endswith("[part] end\n")


def test_a_background_process_does_not_hold_the_run() -> None:
    began = time.monotonic()
    assert prefixed("sh", "-c", "sleep 20 & echo started").returncode == 0
    assert time.monotonic() - began < 15


def test_a_part_that_fails_fails_make(tmp_path: Path) -> None:
    recipe = f"a b:\n\t{sys.executable} {PREFIXED} $@ sh -c 'test $@ = a'\n"
    (tmp_path / "Makefile").write_text(f"SHELL := /bin/bash -o pipefail\n{recipe}")
    for targets, status in ((["a"], 0), (["a", "b"], 2)):
        done = subprocess.run(["make", "--jobs=2", *targets], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == status, done


# --- the callback plugin: a task that runs ----------------------------------------------------------------------------


def test_a_task_is_shown_when_it_has_run_for_so_long_and_again_after_as_long() -> None:
    running = Running()
    running.announce("1", "Pull images")
    running.start("1", "prod1", 100.0)
    running.start("1", "prod2", 101.0)
    assert running.due(114.0, 15) == []
    assert running.due(115.0, 15) == ["... Pull images [prod1, prod2], 15 s"]
    assert running.due(120.0, 15) == []
    running.end("1", "prod1")
    assert running.due(130.0, 15) == ["... Pull images [prod2], 29 s"]
    running.end("1", "prod2")
    assert running.due(200.0, 15) == []


PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: {what: a while}
  tasks:
    - name: Sleep for {{ what }}
      ansible.builtin.command: sleep 2
      changed_when: false
    - name: Keep a secret
      ansible.builtin.command: sh -c 'sleep 1; echo hidden-value'
      changed_when: false
      no_log: true
"""


def play(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the playbook as an operator would whose ansible.cfg is this project's."""
    (folder / "play.yml").write_text(PLAYBOOK)
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            *arguments,
            "play.yml",
        ],
        cwd=folder,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_of_ansible_shows_the_task_and_leaves_its_output_to_programs(tmp_path: Path) -> None:
    done = play(tmp_path, OPENMATES_PROGRESS_EVERY="0.4", ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["stats"]["localhost"]["ok"] == 2
    assert "... Sleep for a while [localhost], " in done.stderr and "... Keep a secret [localhost]" in done.stderr
    assert "hidden-value" not in done.stdout + done.stderr


def test_quick_tasks_and_a_dry_run_print_nothing_more(tmp_path: Path) -> None:
    assert "..." not in play(tmp_path, "--check", OPENMATES_PROGRESS_EVERY="20").stderr
    assert "..." not in play(tmp_path, OPENMATES_PROGRESS_EVERY="0").stderr


def test_the_task_that_waits_for_services_names_them() -> None:
    tasks = yaml.safe_load((ROOT / "roles/stack/tasks/up.yml").read_text())
    [task] = [task for task in tasks if "community.docker.docker_compose_v2" in task]
    wanted = {True: "Start services and wait until they are healthy: cms, api", False: "Start services: cms, api"}
    for wait, name in wanted.items():
        templar = Templar(DataLoader(), {"stack_wait": wait, "stack_up_services": ["cms", "api"]})
        assert templar.template(trust_as_template(task["name"])) == name


# --- tests/progress.py: a test that runs ------------------------------------------------------------------------------


def test_a_slow_test_is_shown_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.append({str(ROOT / 'tests')!r})\nimport progress\n"
        "def pytest_configure(config): progress.register(config)\n"
    )
    (tmp_path / "test_it.py").write_text("import time\ndef test_slow(): print('captured'); time.sleep(1.5)\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_PROGRESS_EVERY": "0.4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "... test_it.py::test_slow, " in done.stdout and "captured" not in done.stdout
