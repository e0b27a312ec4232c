"""make bench: what is slower than before is named, and the record becomes a drawing and a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "lab/bench"))
import bench  # noqa: E402
import chart  # noqa: E402


def entry(commit: str, **ratios: float) -> dict:
    times = {name: {"seconds": 10.0, "cpu_seconds": 4.0, "ratio": ratios.get(name, 10.0)} for name in bench.RUNS}
    profile = {
        "roles": {"verify": 6.0, "vault <&>": 1.5, "base": 0.0},
        "slowest": [["verify", "Probe the server from outside", 5.0]],
        "tasks": 40,
        "ssh": {"calls": 30, "seconds": 7.0, "kilobytes_with_scan": 900},
    }
    return {
        "commit": commit,
        "date": "2026-11-27",
        "ping": {"seconds": 1.0, "cpu_seconds": 0.9},
        **times,
        "profile": profile,
    }


@pytest.mark.parametrize(
    ("now", "names"), [({}, []), ({"site": 11.4}, []), ({"site": 11.6, "status": 30.0}, ["site", "status"])]
)
def test_what_is_slower_than_before_is_named(now: dict, names: list[str]) -> None:
    found = bench.slower(entry("new", **now), entry("old"))
    assert [line.partition(":")[0] for line in found] == names
    assert all("10.0 at old" in line for line in found)


def test_the_first_measurement_is_never_slower() -> None:
    assert bench.slower(entry("new", site=99.0), None) == []


def test_the_drawing_has_every_commit_and_every_role_that_takes_time() -> None:
    drawing = ET.fromstring(chart.svg([entry("a" * 12), entry("b" * 12, site=12.5)]))
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert {"2026-11-27 aaaaaaaaaa", "2026-11-27 bbbbbbbbbb", "12.5", "verify", "vault <&>"} <= set(texts)
    assert "base" not in texts


def test_the_table_names_runs_roles_and_tasks() -> None:
    text = "\n".join(bench.report(entry("new", site=12.5)))
    for words in ("12.5 times a ping", "30 calls of ssh", "6.0 s  verify\n", "5.0 s  verify: Probe the server"):
        assert words in text


def test_each_task_is_timed_with_its_role(tmp_path: Path) -> None:
    role = tmp_path / "roles/greet/tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text("- name: Greet\n  ansible.builtin.command: {argv: [sleep, '0.3']}\n")
    play = "- hosts: localhost\n  connection: local\n  gather_facts: false\n  roles: [greet]\n"
    (tmp_path / "play.yml").write_text(play)
    environment = os.environ | {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "lab/bench/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "bench_tasks",
        "BENCH_TASKS": str(tmp_path / "tasks"),
    }
    command = ["ansible-playbook", "-i", "localhost,", "play.yml"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = json.loads((tmp_path / "tasks").read_text())
    assert [(task["role"], task["name"]) for task in found[1:-1]] == [("greet", "Greet")]
    assert found[1]["seconds"] >= 0.3


def test_each_call_of_ssh_is_timed_and_keeps_its_exit_code_and_streams(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text('#!/bin/sh\ncat\necho "$1" >&2\nexit 7\n')
    (tmp_path / "ssh").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BENCH_CALLS": str(tmp_path / "calls")}
    command = [ROOT / "lab/bench/ssh", "host"]
    done = subprocess.run(command, env=environment, input="in", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "host\n")
    assert float((tmp_path / "calls").read_text()) >= 0
