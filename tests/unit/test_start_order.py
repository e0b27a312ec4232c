"""The order in which a run starts and replaces services."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from rendering import merged, render, templar
from test_release_role import ROOT, evaluate

CONTENT = {"cms-database", "cache", "cms", "cms-setup", "vault"}
APPS = [
    {"name": "app-new-worker", "kind": "worker", "queues": ["new"]},
    {"name": "app-new", "image": "ghcr.io/x/new:1"},
]


def tasks_of(playbook: str) -> list[dict]:
    """The tasks of a playbook, those of blocks among them."""
    [play] = yaml.safe_load((ROOT / "playbooks" / playbook).read_text())
    return [inner for task in play["tasks"] for inner in task.get("block", [task])]


def starts(playbook: str) -> list[dict]:
    """The variables of each call of the stack's entry point `start`."""
    call = {"name": "stack", "tasks_from": "start"}
    return [task.get("vars", {}) for task in tasks_of(playbook) if task.get("ansible.builtin.import_role", {}) == call]


@pytest.mark.parametrize("playbook", ["site.yml", "deploy.yml", "rollback.yml"])
def test_cms_setup_completes_before_anything_of_the_backend_starts(playbook: str) -> None:
    *first, last = starts(playbook)
    assert "stack_services" not in last and last.get("stack_wait", True)
    named = [services if isinstance(services := call["stack_services"], list) else [services] for call in first]
    words = {word for services in named for text in services for word in re.findall(r"[a-z]+(?:-[a-z]+)*", text)}
    assert not words & {"api", "task-worker", "task-scheduler", "apps"}
    setup = first[-1]
    assert "cms-setup" in setup["stack_services"]
    assert setup.get("stack_wait", True) and setup["stack_one_shot_timeout"]


def service(state: str = "running", one_shot: bool = False) -> dict:
    return {"state": state, "one_shot": one_shot, "health": "", "image": "x"}


def plan(expression: str, asked: list[str], **states: dict) -> list[str]:
    """What a start acts on when a version replaces the backend and brings two Apps."""
    services = {name: service() for name in ("api", "task-worker", "task-scheduler", "cms", "cms-database", "cache")}
    services |= {"cms-setup": service("exited", True), "migration": service("missing", True)}
    services |= {app["name"]: service("missing") for app in APPS} | states
    outdated = dict.fromkeys([*services.keys() - {"cms", "cms-database", "cache"}], "its definition has changed")
    info = {"outdated": outdated, "services": services, "stale_networks": {}, "stale_volumes": [], "orphans": []}
    return sorted(
        evaluate(
            "stack", f"{{{{ {expression} }}}}", stack_info=info, stack_services=asked, stack_api=["api"],
            stack_workers=["task-worker", "app-new-worker"],
        )
    )  # fmt: skip


def test_the_first_start_is_for_cms_setup_alone() -> None:
    asked = ["cms-database", "cache", "cms", "cms-setup"]
    assert plan("stack_rest", asked) == ["cms-setup"]
    assert plan("stack_rolling", asked) == plan("stack_new", asked) == []


def test_new_services_start_before_the_api_that_asks_them_and_the_scheduler_after_it() -> None:
    assert plan("stack_new", []) == ["app-new", "app-new-worker"]
    assert plan("stack_rolling", []) == ["api", "task-worker"]
    others = {*plan("stack_rest", [])} - {*plan("stack_new", [])}
    assert others == {"task-scheduler", "cms-setup", "migration"}


def test_a_new_worker_is_started_and_not_rolled_out() -> None:
    assert "app-new-worker" not in plan("stack_rolling", [])


def test_without_an_api_or_worker_to_replace_all_start_together() -> None:
    stopped = {name: service("missing") for name in ("api", "task-worker")}
    assert plan("stack_new", [], **stopped) == []
    assert {"api", "app-new"} <= {*plan("stack_rest", [], **stopped)}


def test_the_steps_of_a_start_are_in_that_order() -> None:
    tasks = yaml.safe_load((ROOT / "roles/stack/tasks/changes.yml").read_text())
    steps = [
        (task["ansible.builtin.include_tasks"], task.get("vars", {}).get("stack_up_services"))
        for task in tasks
        if "ansible.builtin.include_tasks" in task
    ]
    assert steps[-3:] == [("up.yml", "{{ stack_started }}"), ("rollout.yml", None), ("up.yml", "{{ stack_rest }}")]


def test_new_services_that_do_not_start_end_the_run_and_outdated_ones_do_not() -> None:
    """The api is outdated still while new services are judged."""
    info = {
        "outdated": {"api": "x", "app-new": "it is exited"},
        "services": {"api": service(), "app-new": service("exited")},
    }
    failed = evaluate("stack", "{{ stack_failed }}", stack_info=info, stack_up={}, stack_up_judged=["app-new"])
    assert failed == ["app-new"]


def test_there_is_one_scheduler_and_a_second_one_never_starts_beside_it(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_apps=APPS))
    schedulers = [
        name
        for name, definition in services.items()
        if "celery" in map(str, definition.get("command", []))
        and {"beat", "-B", "--beat"} & {*map(str, definition["command"])}
    ]
    assert schedulers == ["task-scheduler"]
    assert not any("scale" in definition or "deploy" in definition for definition in services.values())
    host = templar("prod", tmp_path, openmates_apps=APPS)
    beside = host.template(trust_as_template("{{ stack_api + stack_workers }}"))
    assert beside == ["api", "task-worker", "app-new-worker"]
