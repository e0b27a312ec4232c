"""What remove.yml finds, refuses and announces."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/remove"
[PLAY] = yaml.safe_load((ROOT / "playbooks/remove.yml").read_text())
#: Of the host and not of the stack: they stay.
KEPT = {"openmates-firewall", "openmates-firewall-watch", "openmates-integrity", "openmates-tool-names"}
FOUND = {
    **{"containers": ["api-1"], "networks": ["openmates"], "volumes": ["openmates-vault-data"]},
    **{"units": ["openmates-heal.service"], "data": ["/opt/openmates"], "caddy": True, "rollout": False},
}

spec = importlib.util.spec_from_file_location("found", ROLE / "files/found.py")
found = importlib.util.module_from_spec(spec)
spec.loader.exec_module(found)


def read(expression: str, **variables: object) -> object:
    known = {"inventory_hostname": "prod1", "remove_kept_on_controller": ["/keys"], "remove_servers": ["prod1"]}
    known |= {"remove_data_of": "", "remove_read": {"stdout": json.dumps(FOUND)}}
    own = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    known |= {name: trust_as_template(text) for name, text in own.items()} | variables
    return Templar(DataLoader(), known).template(trust_as_template(f"{{{{ {expression} }}}}"))


@pytest.mark.parametrize(
    ("word", "servers", "allowed"),
    [
        ("", ["prod1"], True),
        ("", ["prod1", "prod2"], True),
        ("prod1", ["prod1"], True),
        ("prod1", ["prod1", "prod2"], False),
        ("prod2", ["prod1"], False),
        ("yes", ["prod1"], False),
    ],
)
def test_data_is_removed_only_with_the_name_of_the_one_server(word: str, servers: list[str], allowed: bool) -> None:
    [task] = yaml.safe_load((ROLE / "tasks/check.yml").read_text())
    [condition] = [task["ansible.builtin.assert"]["that"]]
    assert read(condition, remove_data_of=word, remove_servers=servers) is allowed


def test_the_word_is_checked_before_the_server_is_contacted_and_nothing_is_changed_before_the_announcement() -> None:
    names = [task["name"] for task in PLAY["tasks"]]
    order = ["Read the settings", "Check that the removal is wanted", "Find the login user"]
    assert sorted(order, key=names.index) == order
    tasks = [task["name"] for task in yaml.safe_load((ROLE / "tasks/main.yml").read_text())]
    assert tasks[:3] == [
        "Read what is there",
        "Refuse while a roll-out is under way",
        "Show what is removed, and what stays",
    ]
    # What a unit writes until it is stopped is data as well.
    order = ["Stop the units that work for the stack", "Read what is left", "Remove secrets, configuration and state"]
    assert sorted(order, key=tasks.index) == order


def test_data_stays_unless_its_removal_is_asked_for() -> None:
    kept, gone = " ".join(read("remove_announced")), " ".join(read("remove_announced", remove_data_of="prod1"))
    assert "The data stays: openmates-vault-data, /opt/openmates" in kept and "ALL DATA" not in kept
    assert "ALL DATA, for ever: openmates-vault-data" in gone and "The data stays" not in gone
    assert "/keys" in kept and "/keys" in gone
    tasks = {task["name"]: task for task in yaml.safe_load((ROLE / "tasks/main.yml").read_text())}
    for name in ("Remove the volumes", "Remove secrets, configuration and state"):
        assert read(tasks[name]["loop"].strip("{} ")) == []
        assert read(tasks[name]["loop"].strip("{} "), remove_data_of="prod1") != []


def test_where_nothing_is_there_nothing_is_due() -> None:
    nothing = {name: [] if isinstance(value, list) else value for name, value in FOUND.items()}
    assert read("remove_due") is True
    assert read("remove_due", remove_read={"stdout": json.dumps(nothing)}) is False
    data = json.dumps({**nothing, "volumes": ["v"]})
    assert read("remove_due", remove_read={"stdout": data}) is False
    assert read("remove_due", remove_read={"stdout": data}, remove_data_of="prod1") is True


def test_every_unit_of_ours_is_removed_or_kept_on_purpose() -> None:
    files = [*ROOT.glob("roles/**/openmates-*.service*"), *ROOT.glob("roles/**/openmates-*.timer*")]
    files += ROOT.glob("roles/**/openmates-*.socket*")
    names = {re.sub(r"\.j2$", "", file.name) for file in files}
    removed = set(yaml.safe_load((ROLE / "defaults/main.yml").read_text())["remove_units"])
    assert {name for name in names if name.rpartition(".")[0] not in KEPT} == removed


def test_the_lock_of_runs_stays_and_a_roll_out_is_seen(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "change.lock").touch()
    assert found.content(state) == []
    (state / "digest.key").touch()
    assert found.content(state) == [str(state / "digest.key")]
    assert found.content(tmp_path / "missing") == []
    lock = tmp_path / "rollout.lock"
    assert not found.locked(lock)
    with lock.open("w") as held:
        assert not found.locked(lock)
        fcntl.flock(held, fcntl.LOCK_EX)
        assert found.locked(lock)
