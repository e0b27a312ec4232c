"""When a run stops because of the server's release, and what it says that it will interrupt."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from rendering import templar

ROOT = Path(__file__).parents[2]
IMAGE = "ghcr.io/glowingkitty/openmates-api:"


def evaluate(role: str, expression: str, **variables: object) -> object:
    """An expression with the variables of a role and those of its caller."""
    found: dict = {}
    for name in ("defaults/main.yml", "vars/main.yml"):
        loaded = yaml.safe_load((ROOT / "roles" / role / name).read_text())
        found |= {key: trust_as_template(value) if isinstance(value, str) else value for key, value in loaded.items()}
    return Templar(DataLoader(), found | variables).template(trust_as_template(expression))


def release(origin: str, version: str, **more: object) -> dict:
    return {
        "id": "20261126T210000Z",
        "origin": origin,
        "time": 0,
        "images": {"api": {"reference": IMAGE + version}},
    } | more


def stops(current: dict, accept: str = "") -> bool:
    """Whether the task of `check` would stop the run."""
    [task] = yaml.safe_load((ROOT / "roles/release/tasks/check.yml").read_text())
    return evaluate(
        "release", f"{{{{ {task['when']} }}}}", release_current=current, release_accept=accept,
        release_declared={"api": IMAGE + "v1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ({}, False),
        (release("inventory", "v1"), False),
        (release("inventory", "v0"), False),  # the inventory has changed, which is what site.yml is for
        (release("version", "v2"), True),
        (release("version", "v1"), False),  # the inventory has caught up
        (release("rollback", "v2", restored="x"), True),
        (release("rollback", "v1", restored="x"), False),
        (release("rollback", "v1", restored="x", configuration_only=True), True),
    ],
    ids=["none", "same", "changed", "other", "caught up", "rolled back", "back at it", "only configuration"],
)
def test_a_run_stops_for_a_release_that_the_inventory_does_not_declare(current: dict, expected: bool) -> None:
    assert stops(current) is expected
    assert stops(current, accept="inventory") is False


def test_the_message_names_the_line_to_change() -> None:
    [task] = yaml.safe_load((ROOT / "roles/release/tasks/check.yml").read_text())
    text = evaluate(
        "release", task["ansible.builtin.fail"]["msg"], inventory_hostname="server",
        release_current=release("version", "v2", operator="ada"), release_declared={"api": IMAGE + "v1"},
    )  # fmt: skip
    assert text.splitlines() == [
        "server was not changed: it runs release 20261126T210000Z, which ada deployed at 1970-01-01 00:00 UTC, and the"
        " inventory declares something else:",
        f"- api: {IMAGE}v2 instead of {IMAGE}v1",
        "Set openmates_version: v2 to keep it, or add -e accept_release=inventory to replace it.",
    ]


def message(current: dict, **declared: str) -> list[str]:
    [task] = yaml.safe_load((ROOT / "roles/release/tasks/check.yml").read_text())
    return evaluate(
        "release", task["ansible.builtin.fail"]["msg"], inventory_hostname="server",
        release_current=current, release_declared={"api": IMAGE + "v1"} | declared,
    ).splitlines()  # fmt: skip


def test_services_with_the_same_difference_share_a_line() -> None:
    current = release("version", "v2")
    current["images"] |= {"task-worker": {"reference": IMAGE + "v2"}, "cms": {"reference": "cms:1"}}
    lines = message(current, **{"task-worker": IMAGE + "v1", "cms": "cms:0"})
    assert lines[1:-1] == [f"- api, task-worker: {IMAGE}v2 instead of {IMAGE}v1", "- cms: cms:1 instead of cms:0"]
    assert "which an operator deployed at" in lines[0]


def test_a_rollback_names_the_release_that_was_returned_to() -> None:
    first, difference, last = message(release("rollback", "v1", restored="20261101T0Z", configuration_only=True))
    assert "it runs release 20261101T0Z, which an operator returned to at" in first
    assert difference == "- the configuration of that release; the images are the same"
    assert last.startswith("Set what that release was configured with to keep it, or add -e accept_release=inventory")


def test_an_image_of_one_service_is_kept_by_openmates_services() -> None:
    current = release("version", "v1")
    current["images"]["grafana"] = {"reference": "grafana:2"}
    assert message(current, grafana="grafana:1")[-1].startswith("Set these images in openmates_services to keep it")


def service(state: str = "running", one_shot: bool = False) -> dict:
    return {"state": state, "one_shot": one_shot, "health": "", "image": ""}


def forecast(outdated: dict[str, str], **services: dict) -> list[str]:
    names = {"api": service(), "cache": service(), "grafana": service(), "cms-setup": service("exited", True)}
    info = {"outdated": outdated, "services": names | services}
    return evaluate("stack", "{{ stack_forecast }}", stack_info=info, stack_api=["api"], stack_workers=["task-worker"])


def test_what_is_replaced_beside_the_running_one_interrupts_nothing() -> None:
    [line] = forecast({"api": "its definition has changed"})
    assert line == "api is replaced beside the running one: its definition has changed. It interrupts nothing."


def test_an_interruption_is_announced_with_its_duration() -> None:
    [line] = forecast({"cache": "its definition has changed"})
    assert "cache restarts: its definition has changed" in line
    assert line.endswith("for up to 30 s.")


def test_a_new_password_of_the_cache_interrupts_until_the_api_has_it_too() -> None:
    assert forecast({"cache": "x", "api": "x"})[0].endswith("for up to 180 s.")
    assert forecast({"cache": "x", "cms": "x", "api": "x"}, cms=service())[0].endswith("for up to 240 s.")


def test_an_api_that_does_not_run_cannot_be_replaced_without_an_interruption() -> None:
    [line] = forecast({"api": "it is exited"}, api=service("exited"))
    assert line == "api restarts: it is exited. It interrupts all requests, for up to 60 s."


def test_what_starts_for_the_first_time_interrupts_nothing_and_is_not_named() -> None:
    assert forecast({"api": "it has no container"}, api=service("missing")) == []


def test_services_that_no_user_notices() -> None:
    assert forecast({"grafana": "x", "cms-setup": "x"}) == [
        "grafana restarts: x. No user notices.",
        "cms-setup runs again: x. It interrupts nothing.",
    ]


# ---------------------------------------------------------------- a rollback and the schema


def rollback_schema(since: dict | None) -> str:
    [play] = yaml.safe_load((ROOT / "playbooks/rollback.yml").read_text())
    target = {"id": "x"} | ({"since": since} if since is not None else {})
    return evaluate("release", play["vars"]["rollback_schema"], rollback_target=target)


def test_a_rollback_says_whether_the_schema_has_changed_since() -> None:
    assert rollback_schema({"changed": False, "what": [], "dump": ""}) == "Directus's schema is the same."
    what = ["chats.title: created", "tasks: created"]
    assert rollback_schema({"changed": True, "what": what, "dump": "/var/backups/x.dump"}) == (
        "Directus's schema has changed since, and stays as it is: chats.title: created, tasks: created."
        " The dump from before that is /var/backups/x.dump."
    )
    many = rollback_schema({"changed": True, "what": [f"f{number}" for number in range(22)], "dump": ""})
    assert many.endswith("f19 and 2 more.")


@pytest.mark.parametrize("since", [None, {"changed": None, "what": [], "dump": ""}])
def test_a_rollback_does_not_claim_to_know_what_it_does_not(since: dict | None) -> None:
    assert rollback_schema(since).startswith("It is not known whether Directus's schema has changed since")


# ---------------------------------------------------------------- the project's directory


@pytest.mark.parametrize(
    ("role", "setting", "program", "constant"),
    [
        ("release", "release_directory", "/usr/local/sbin/openmates-release", "STACK"),
        ("stack", "stack_directory", "/usr/local/sbin/openmates-ready", "DIRECTORY"),
    ],
)
def test_programs_on_the_host_follow_openmates_directory(
    role: str, setting: str, program: str, constant: str, tmp_path: Path
) -> None:
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks/main.yml").read_text())
    [content] = [
        file["content"]
        for task in tasks
        for file in task.get("openmates.server.host_files", {}).get("files", [])
        if isinstance(file, dict) and file["path"] == program
    ]
    name = program.rpartition("/")[2]
    source = (ROOT / "roles" / role / "files" / f"{name}.py").read_text().removesuffix("\n")
    template = content.replace(f"lookup('ansible.builtin.file', '{name}.py')", "source")
    text = evaluate(role, template, source=source, **{setting: "/srv/mates"})
    assert "/opt/openmates" not in text
    [line] = [line for line in text.splitlines() if line.startswith(f"{constant} = ")]
    assert '"/srv/mates"' in line


def test_the_project_hands_its_directory_to_the_roles(tmp_path: Path) -> None:
    host = templar("prod", tmp_path, openmates_directory="/srv/mates")
    for name in ("release_directory", "stack_directory"):
        assert host.template(trust_as_template(f"{{{{ {name} }}}}")) == "/srv/mates"


def due(**current: object) -> bool:
    """Whether a run that has replaced nothing records a release."""
    [(_, expression)] = [
        (key, value)
        for key, value in yaml.safe_load((ROOT / "playbooks/group_vars/all/roles.yml").read_text()).items()
        if key == "release_due"
    ]
    known = {"id": "20261126T210000Z", "result": "ok", "origin": "version", "overwritten": False} | current
    variables = {"release_current": known, "release_origin": "version", "ansible_check_mode": False}
    return Templar(DataLoader(), variables).template(trust_as_template(expression))


def test_a_run_that_replaced_nothing_records_what_a_killed_one_has_rolled_out() -> None:
    assert not due()
    assert due(overwritten=True)
    assert due(result="not verified") and due(origin="inventory")
