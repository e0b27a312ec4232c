"""When upgrade.yml changes something, in which order, and what it does when a part fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/upgrade"
[PLAY] = yaml.safe_load((ROOT / "playbooks/upgrade.yml").read_text())
SIMULATED = "Inst docker.io [1-1] (1-2 Debian:13/stable [arm64])\nInst tzdata [1-1] (1-2 Debian:13/stable [all])\n"
READY = json.dumps({"ready": True, "parts": []})
NOT_READY = json.dumps({"ready": False, "parts": [{"name": "queue:email", "ok": False, "detail": "no worker"}]})


def defaults() -> dict:
    found: dict = {}
    for name in ("defaults/main.yml", "vars/main.yml"):
        found |= yaml.safe_load((ROLE / name).read_text())
    return found


def read(expression: str, **variables: object) -> object:
    """An expression with the variables of the role, as a run on a healthy host without anything to do reads them."""
    known = {key: trust_as_template(value) if isinstance(value, str) else value for key, value in defaults().items()}
    host = {
        "upgrade_left_read": {"rc": 1, "stdout": ""},
        "upgrade_held_read": {"stdout_lines": []},
        "upgrade_simulated": {"stdout": ""},
        "upgrade_needs_read": {"stdout": ""},
        "upgrade_apt_state": {"rc": 0, "stderr": ""},
        "upgrade_ready_before": {"rc": 0, "stdout": READY, "stderr": ""},
        "upgrade_uris": {"stdout": "'http://deb.example.org/a.deb' a.deb 10 SHA256:ab\n"},
        "upgrade_space": {
            "stdout": "Avail File\n9000000000 /var/cache/apt/archives\n9000000000 /usr\n9000000000 /boot\n"
        },
    }
    return Templar(DataLoader(), known | host | variables).template(trust_as_template(f"{{{{ {expression} }}}}"))


def tasks_of(tasks: list[dict]) -> Iterator[dict]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part, []))


def entry(task: dict) -> str:
    """The part of a role that a task runs, as role/part."""
    role = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") or {}
    return f"{role['name']}/{role.get('tasks_from', 'main')}" if role else ""


# ---------------------------------------------------------------- what is due

LEFT = {"rc": 0, "stdout": '{"holds": ["docker.io"]}'}


@pytest.mark.parametrize(
    ("state", "due"),
    [
        ({}, False),
        ({"upgrade_simulated": {"stdout": SIMULATED}}, True),
        ({"upgrade_needs_read": {"stdout": "REBOOT-REQUIRED: libc6"}}, True),
        ({"upgrade_needs_read": {"stdout": "REBOOT-REQUIRED: libc6"}, "upgrade_reboot": "false"}, False),
        ({"upgrade_left_read": LEFT}, True),
        ({"upgrade_apt_state": {"rc": 100, "stderr": "E: dpkg was interrupted, you must manually run"}}, True),
        ({"upgrade_simulated": {"stdout": SIMULATED}, "upgrade_held_read": {"stdout_lines": ["tzdata"]}}, True),
    ],
    ids=["nothing", "packages", "reboot", "reboot is not wanted", "interrupted", "dpkg interrupted", "hold"],
)
def test_a_run_ends_at_once_if_nothing_is_due(state: dict, due: bool) -> None:
    assert read("upgrade_due", **state) is due


def test_only_dockers_holds_are_released_and_those_of_a_killed_run_come_back() -> None:
    held = {"stdout_lines": ["tzdata", "runc", "python3-docker"]}
    assert read("upgrade_holds", upgrade_held_read=held) == ["runc"]
    assert read("upgrade_holds", upgrade_held_read=held, upgrade_left_read=LEFT) == ["docker.io", "runc"]


def test_dockers_packages_are_those_that_are_not_upgraded_unattended() -> None:
    base = yaml.safe_load((ROOT / "roles/base/defaults/main.yml").read_text())["base_held_packages"]
    assert defaults()["upgrade_docker_packages"] == [package["name"] for package in base]


# ---------------------------------------------------------------- checks


def test_a_server_that_is_not_ready_is_refused_with_the_parts_that_fail() -> None:
    failing = {"rc": 1, "stdout": NOT_READY, "stderr": ""}
    [problem] = read("upgrade_problems", upgrade_ready_before=failing)
    assert "queue:email" in problem and "-e upgrade_unhealthy=true" in problem
    assert read("upgrade_problems", upgrade_ready_before=failing, upgrade_unhealthy="true") == []
    assert read("upgrade_problems", upgrade_ready_before=failing, upgrade_left_read=LEFT) == [], "it continues"
    [problem] = read("upgrade_problems", upgrade_ready_before={"rc": 2, "msg": "No such file", "stderr": ""})
    assert "No such file" in problem


def test_an_interrupted_roll_out_and_a_full_disk_are_refused() -> None:
    outdated = {"api": "it has 2 containers: a roll-out was interrupted", "cms": "its definition has changed"}
    [problem] = read("upgrade_problems", upgrade_outdated=outdated)
    assert "roll-out of api" in problem and "site.yml" in problem
    [problem] = read("upgrade_problems", upgrade_space={"stdout": "Avail File\n1000 /usr\n"})
    assert problem.startswith("/usr has 0 MB left")


@pytest.mark.parametrize(
    ("unseal", "shares", "passes"), [("host", [], True), ("operator", ["a"], True), ("operator", [], False)]
)
def test_a_server_whose_vault_would_stay_sealed_is_refused(unseal: str, shares: list[str], passes: bool) -> None:
    ask, stop = yaml.safe_load((ROOT / "roles/vault/tasks/before_restart.yml").read_text())
    known = {"vault_unseal": unseal, "__vault_shares": shares, "__vault_keys": {"pgp_shares": ["x"]}}
    assert read(stop["ansible.builtin.assert"]["that"], **known) is passes
    assert all(read(condition, **known) for condition in ask["when"]) is not passes
    then = yaml.safe_load((ROOT / "roles/vault/tasks/after_restart.yml").read_text())[0]["when"]
    assert read(then, **known) is (unseal == "operator")


def test_what_is_left_to_do_is_reported() -> None:
    remains = read(
        "upgrade_remains", upgrade_needs_read={"stdout": "REBOOT-REQUIRED: \nNEEDRESTART-SVC: docker.service"}
    )
    assert len(remains) == 2 and "reboot is pending" in remains[0] and "docker.service" in remains[1]
    assert read("upgrade_remains") == []


# ---------------------------------------------------------------- order


def test_nothing_is_interrupted_before_the_checks_and_the_download() -> None:
    parts = [found for task in tasks_of(PLAY["tasks"]) if (found := entry(task))]
    order = ["settings/main", "login/main", "upgrade/plan", "stack/wait", "upgrade/check", "vault/before_restart"]
    order += ["upgrade/begin", "upgrade/window", "upgrade/main", "upgrade/needs", "upgrade/window", "upgrade/reboot"]
    order += ["vault/after_restart", "stack/resume", "upgrade/ready", "upgrade/closed", "upgrade/finish", "verify/main"]
    assert parts == order


def test_the_site_is_closed_for_dockers_packages_and_for_a_reboot_only() -> None:
    windows = [task["when"] for task in tasks_of(PLAY["tasks"]) if entry(task) == "upgrade/window"]
    plans = {"docker": {"stdout": SIMULATED}, "other": {"stdout": SIMULATED.splitlines()[1]}}
    reboot = {"upgrade_needs_read": {"stdout": "REBOOT-REQUIRED: libc6"}}
    for expression, state, opened in (
        (windows[0], {"upgrade_simulated": plans["docker"]}, True),
        (windows[0], {"upgrade_simulated": plans["other"]}, False),
        (windows[1], {"upgrade_simulated": plans["other"]}, False),
        (windows[1], {"upgrade_simulated": plans["other"], **reboot}, True),
        (windows[1], {**reboot, "upgrade_window_open": True}, False),
        (windows[1], {**reboot, "upgrade_reboot": False}, False),
        (windows[1], {**reboot, "upgrade_left_read": LEFT}, True),  # the killed run may not have come to it
    ):
        assert read(expression, **state) is opened, (expression, state)


def test_holds_come_back_whatever_happens() -> None:
    [upgrade] = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    release, _ = upgrade["block"]
    [again] = upgrade["always"]
    module = "ansible.builtin.dpkg_selections"
    assert (release[module]["selection"], again[module]["selection"]) == ("install", "hold")
    assert release["loop"] == again["loop"] and "when" not in again
    noted = next(
        task for task in yaml.safe_load((ROLE / "tasks/begin.yml").read_text()) if "ansible.builtin.copy" in task
    )
    assert "upgrade_holds" in noted["ansible.builtin.copy"]["content"], "for a run that is killed in between"


def test_maintenance_ends_only_after_the_server_is_ready() -> None:
    """With the very tasks of the play: what fails ends the run before the task that opens the site."""
    tasks = PLAY["tasks"]
    opening = next(number for number, task in enumerate(tasks) if entry(task) == "upgrade/finish")
    before = tasks[opening - 1]
    assert [entry(task) for task in before["rescue"]] == ["upgrade/closed"]
    assert "upgrade/ready" in [entry(task) for task in before["block"]]
    closed = yaml.safe_load((ROLE / "tasks/closed.yml").read_text())
    assert "ansible.builtin.fail" in closed[-1] and "when" not in closed[-1]
    assert not any(
        "openmates.server.maintenance" in task and task["openmates.server.maintenance"]["state"] == "off"
        for file in ROLE.glob("tasks/*.yml")
        if file.name != "finish.yml"
        for task in tasks_of(yaml.safe_load(file.read_text()))
    )


def test_the_lock_outlives_the_reboot() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/reboot.yml").read_text())
    modules = [next(name for name in task if "." in name) for task in tasks]
    assert modules[:3] == ["openmates.server.change_lock", "ansible.builtin.reboot", "openmates.server.change_lock"]
    assert tasks[0]["openmates.server.change_lock"] == {"reboot": True}


# ---------------------------------------------------------------- one server at a time

FAILS = """
    - name: Change the server
      block:
        - name: Note that it was changed
          ansible.builtin.file: {{path: "{folder}/{{{{ inventory_hostname }}}}", state: touch, mode: "0600"}}
        - name: Fail on the first
          ansible.builtin.fail: {{msg: broken}}
          when: inventory_hostname == 'first'
      rescue:
        - name: Repair it
          ansible.builtin.file: {{path: "{folder}/repaired", state: touch, mode: "0600"}}
    - name: Fail all the same
      ansible.builtin.fail: {{msg: broken}}
      when: inventory_hostname == 'first'
"""


@pytest.mark.parametrize("fails", [True, False])
def test_a_server_that_fails_is_repaired_and_stops_the_others(tmp_path: Path, fails: bool) -> None:
    """With the very keywords of the play."""
    keys = {key: PLAY[key] for key in ("serial", "any_errors_fatal", "max_fail_percentage", "gather_facts")}
    head = yaml.safe_dump([{"name": "Upgrade", "hosts": "all", "connection": "local", **keys}])
    tasks = "  tasks:" + (FAILS if fails else FAILS.replace("== 'first'", "== 'none'")).format(folder=tmp_path)
    (tmp_path / "play.yml").write_text(head + tasks)
    (tmp_path / "ansible.cfg").touch()
    python = f"ansible_python_interpreter={sys.executable}"
    command = [sys.executable, "-m", "ansible", "playbook", tmp_path / "play.yml", "-i", "first,second", "-e", python]
    done = subprocess.run(
        command,
        env={**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout
    assert (tmp_path / "first").exists()
    assert (tmp_path / "repaired").exists() is fails, done.stdout
    assert (tmp_path / "second").exists() is not fails, done.stdout
