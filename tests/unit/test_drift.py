"""drift.yml is always a dry run, and reports the tasks and names that it would change."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible import context
from ansible.utils.context_objects import CLIArgs
from ansible_collections.openmates.server.plugins.plugin_utils.change import drift

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "playbooks/callback_plugins/openmates_drift.py"


@pytest.fixture
def callback():
    spec = importlib.util.spec_from_file_location("openmates_drift", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CallbackModule()


@pytest.mark.parametrize(
    ("name", "check", "again"), [("drift", False, True), ("drift", True, False), ("site", False, False)]
)
def test_without_check_the_same_command_is_started_again_with_it(
    callback, monkeypatch: pytest.MonkeyPatch, name: str, check: bool, again: bool
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({"check": check}))
    monkeypatch.setattr("sys.argv", ["ansible-playbook", f"playbooks/{name}.yml", "-i", "prod"])
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: started.append(command[1:]) or SimpleNamespace(returncode=2)
    )
    playbook = SimpleNamespace(_file_name=f"/somewhere/playbooks/{name}.yml")
    if again:
        with pytest.raises(SystemExit) as ended:
            callback.v2_playbook_on_start(playbook)
        assert ended.value.code == 2
    else:
        callback.v2_playbook_on_start(playbook)
    assert started == ([["ansible-playbook", "playbooks/drift.yml", "-i", "prod", "--check"]] if again else [])


def test_if_it_were_no_dry_run_nothing_would_follow() -> None:
    first, site, last = yaml.safe_load((ROOT / "playbooks/drift.yml").read_text())
    assert first["any_errors_fatal"] and first["tasks"][2]["ansible.builtin.assert"]["that"] == "ansible_check_mode"
    assert site["ansible.builtin.import_playbook"] == "site.yml"
    assert all(task.get("tags") == "always" for play in (first, last) for task in play["tasks"])


def test_names_are_reported_and_no_value() -> None:
    found = drift.Findings()
    found.add("prod1", "ssh : Configure sshd", {"changed": True, "written": ["/etc/ssh/x"], "diff": ["canary"]})
    found.add("prod1", "ssh : Configure sshd", {"changed": True, "written": ["/etc/ssh/x", "/etc/ssh/y"]})
    found.add("prod1", "base : Set the time zone", {"changed": True, "msg": "canary"})
    found.add(
        "prod1", "a loop", {"results": [{"changes": ["role Editor"], "content": "canary"}, {"actions": "canary?"}]}
    )
    found.add("prod2", "another", {})
    assert drift.report("prod1", found.of("prod1")) == [
        "prod1: DRIFT, 3 tasks of site.yml would change it",
        "  - ssh : Configure sshd: /etc/ssh/x, /etc/ssh/y",
        "  - base : Set the time zone",
        "  - a loop: role Editor, canary?",
    ]
    record = drift.record("prod1", found.of("prod1"), 1795793000)
    assert json.loads(drift.document(record))["drift"][0] == {
        "task": "ssh : Configure sshd",
        "names": ["/etc/ssh/x", "/etc/ssh/y"],
    }
    assert "openmates_drift_tasks 3\n" in drift.metrics(record)
    assert "openmates_drift_last_check_timestamp_seconds 1795793000\n" in drift.metrics(record)


def test_a_server_without_drift_is_said_to_have_none() -> None:
    assert drift.report("prod1", drift.Findings().of("prod1")) == [
        "prod1: no drift, it is as the inventory declares it"
    ]
