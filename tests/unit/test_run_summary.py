"""A run on several servers ends with one table, the failed ones first, each with its cause."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml
from ansible_collections.openmates.server.plugins.plugin_utils.change.summary import cause_of, summary_of

ROOT = Path(__file__).parents[2]
INVENTORY = """\
all:
  hosts:
    good: {ansible_connection: local}
    bad: {ansible_connection: local}
    gone: {ansible_host: 127.0.0.1, ansible_port: 1}
"""
PLAY = """\
- name: Do something
  hosts: all
  gather_facts: false
  serial: "{{ servers_at_once | default(0) | int }}"
  max_fail_percentage: "{{ 0 if servers_at_once is defined else 100 }}"
  tasks:
    - name: Do what fails and is rescued
      block:
        - name: Fail at first
          ansible.builtin.fail: {msg: not the cause}
      rescue:
        - name: Go on
          ansible.builtin.command: {argv: ["true"]}
    - name: Check it
      ansible.builtin.assert:
        that: inventory_hostname != "bad"
        fail_msg: "bad has problems:\\n- the disk is full\\n- more"
"""


def run(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "playbooks/callback_plugins"),
        "ANSIBLE_FORCE_COLOR": "0",
        **environment,
    }
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml"), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_failed_servers_come_first_with_their_cause(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode
    head, bad, gone, good = done.stdout.rstrip().splitlines()[-4:]
    assert head == "1 of 3 servers: ok", done.stdout
    assert bad == "  bad   failed       Check it: bad has problems: the disk is full (and 1 more)"
    assert gone.startswith("  gone  unreachable  Go on: ") and "refused" in gone
    assert good == "  good  ok           1 changed"


def test_a_failure_stops_the_servers_after_it_if_they_go_one_after_the_other(tmp_path: Path) -> None:
    done = run(tmp_path, "-e", "servers_at_once=1")
    assert done.returncode
    assert done.stdout.rstrip().splitlines()[-4:] == [
        "1 of 3 servers: ok",
        "  bad   failed       Check it: bad has problems: the disk is full (and 1 more)",
        "  gone  not reached",
        "  good  ok           1 changed",
    ]


def test_one_failure_of_several_at_once_stops_the_next(tmp_path: Path) -> None:
    done = run(tmp_path, "-e", "servers_at_once=2")
    assert done.returncode and "gone  not reached" in done.stdout


def test_every_playbook_that_interrupts_goes_one_server_at_a_time() -> None:
    for name, default in {"deploy": 1, "rollback": 1, "rotate": 1, "upgrade": 1, "site": 0}.items():
        play = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text())[0]
        assert play["serial"] == f"{{{{ servers_at_once | default({default}) | int }}}}"
        assert play["max_fail_percentage"] == (
            "{{ 0 if servers_at_once is defined else 100 }}" if name == "site" else 0
        )


def test_one_server_needs_no_table_and_a_report_stays_readable_by_programs(tmp_path: Path) -> None:
    assert "servers: ok" not in run(tmp_path, "--limit", "good").stdout
    assert "servers: ok" not in run(tmp_path, ANSIBLE_STDOUT_CALLBACK="openmates.server.report").stdout


def test_a_loops_failing_entry_is_the_cause_and_a_long_one_is_cut() -> None:
    results = [{"msg": "fine"}, {"failed": True, "msg": "x" * 400}]
    cause = cause_of("Do it", {"msg": "One or more items failed", "results": results})
    assert cause == f"Do it: {'x' * 299}…"
    assert cause_of("Do it", {"failed": True}) == "Do it"


def test_all_servers_in_order() -> None:
    counts = {"a": {"ok": 3, "changed": 0}, "b": {"ok": 3, "changed": 2}}
    assert summary_of(["a", "b"], counts, {"a": "rescued"}) == [
        "All 2 servers: ok",
        "  a  ok  nothing changed",
        "  b  ok  2 changed",
    ]
