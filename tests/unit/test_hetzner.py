"""What a server at Hetzner should be, and what refuses it before anything is created; tests/hcloud has the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.plugin_utils import hetzner

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/hetzner"
KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmp9M1yXbAEQ64MJV+tq5qdeR7UOlfPgIXMW5oFSiQb me@laptop",
    'from="192.0.2.0/24" sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAA',
]
SERVER_TYPE = {"name": "cax21", "architecture": "arm", "locations": [{"name": "fsn1"}, {"name": "hel1"}]}
FOUND: dict = {
    "server": {},
    "server_types": [SERVER_TYPE],
    "images": [{"name": "debian-13"}],
    "ssh_keys": [],
    "firewall": {},
    "primary_ips": [],
}
WANTED = {
    "name": "one",
    "server_type": "cax21",
    "location": "fsn1",
    "image": "debian-13",
    "ssh_keys": KEYS,
    "ssh_key_names": [],
    "ssh_port": 22,
    "address": "",
}
MINE = {"labels": {"openmates": "one"}}
SERVER = {
    "name": "one",
    "server_type": "cax21",
    "location": "fsn1",
    "ipv4_address": "192.0.2.7",
    "ipv6": "2001:db8:1::/64",
}


def test_the_cloud_firewall_opens_what_the_host_opens() -> None:
    rules = hetzner.firewall_rules({"443": "caddy (https)", "22": "ssh"}, {"22": ["203.0.113.7", "2001:db8::1/32"]})
    assert [(rule["protocol"], rule["port"]) for rule in rules] == [("icmp", None), ("tcp", "22"), ("tcp", "443")]
    # Networks in the form that Hetzner accepts, which differs from what a person may write.
    assert rules[1]["source_ips"] == ["2001:db8::/32", "203.0.113.7/32"]
    assert rules[2]["source_ips"] == ["0.0.0.0/0", "::/0"] and rules[2]["description"] == "caddy (https)"
    assert {rule["direction"] for rule in rules} == {"in"}


def test_the_playbook_gives_the_role_what_the_firewall_of_the_host_gets() -> None:
    wiring = yaml.safe_load((ROOT / "playbooks/group_vars/all/roles.yml").read_text())
    assert wiring["hetzner_sources"] == "{{ firewall_sources }}"
    assert wiring["hetzner_port_names"] == "{{ openmates_port_names }}" == wiring["verify_port_names"]
    assert wiring["firewall_tcp_ports"] == "{{ openmates_open_ports }}"


def test_a_key_that_hetzner_has_under_another_name_is_not_created_again() -> None:
    plan = hetzner.ssh_keys(KEYS, [{"name": "laptop", "public_key": KEYS[0].replace("me@laptop", "old comment")}])
    assert plan["names"][0] == "laptop" and len(plan["names"]) == 2
    (missing,) = plan["missing"]
    assert missing["public_key"].startswith("sk-ssh-ed25519@openssh.com AAAA") and missing["name"] == plan["names"][1]
    assert hetzner.ssh_keys(KEYS[:1] * 2, [])["missing"] == hetzner.ssh_keys(KEYS[:1], [])["missing"]


def test_a_new_server_and_one_that_is_there_have_no_problems() -> None:
    assert hetzner.problems(FOUND, WANTED) == []
    assert hetzner.problems(FOUND | {"server": SERVER | MINE, "server_types": []}, WANTED) == []


PROBLEMS = [
    ({"server": SERVER | {"labels": {}}}, {}, "a server one that this project did not make"),
    (
        {"firewall": {"name": "one", "labels": {"openmates": "two"}}},
        {},
        "a firewall one that this project did not make",
    ),
    ({"primary_ips": [{"name": "one-ipv4", "ip": "192.0.2.7"}]}, {}, "a primary IP one-ipv4 that this project did not"),
    ({"server": SERVER | MINE}, {"server_type": "cax31"}, "but the server is a cax21. Rescale it"),
    ({"server": SERVER | MINE}, {"location": "hel1"}, "but the server is in fsn1, and cannot be moved"),
    ({"server": SERVER | MINE}, {"address": "198.51.100.1"}, "which is no address of one at Hetzner"),
    ({}, {"address": "198.51.100.1"}, "run bootstrap instead"),
    ({"server_types": []}, {"server_type": "cax99"}, "Hetzner has no type cax99"),
    ({}, {"location": "ash"}, "Hetzner has no cax21 in ash. Choose one of fsn1, hel1"),
    ({"images": []}, {}, "no image debian-13 for cax21, whose architecture is arm"),
    ({}, {"ssh_port": 2222}, "but a new server listens on 22"),
    ({}, {"ssh_key_names": ["laptop"]}, "has no SSH key laptop"),
    ({}, {"ssh_keys": []}, "would have no SSH key"),
]


@pytest.mark.parametrize(("found", "wanted", "says"), PROBLEMS, ids=[row[2] for row in PROBLEMS])
def test_what_cannot_become_the_server_is_refused(found: dict, wanted: dict, says: str) -> None:
    (problem,) = hetzner.problems(FOUND | found, WANTED | wanted)
    assert says in problem


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8:1::1", "server.example.test", ""])
def test_an_inventory_that_names_the_server_itself(address: str) -> None:
    assert hetzner.problems(FOUND | {"server": SERVER | MINE}, WANTED | {"address": address}) == []


def test_the_address_of_a_server_that_was_deleted_is_still_its_own() -> None:
    kept = {"name": "one-ipv4", "ip": "192.0.2.7", **MINE}
    assert hetzner.problems(FOUND | {"primary_ips": [kept]}, WANTED | {"address": "192.0.2.7"}) == []


def test_of_a_loop_the_item_that_failed_is_explained() -> None:
    failed = {"failed": True, "msg": "x", "failure": {"code": "locked", "message": "server is locked"}}
    text = hetzner.failure({"msg": "One or more items failed", "results": [{"changed": True}, failed]}, "Do it")
    assert text.startswith("Do it: Hetzner is still working on it (server is locked). ")


def test_an_error_without_a_known_code_is_shown_as_it_is() -> None:
    text = hetzner.failure({"msg": "something else\nsecond line"}, "Do it")
    assert text == "Do it: the call failed (something else). Run this again with -vvv for more."


def test_the_placeholder_is_that_of_a_new_project() -> None:
    placeholder = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["hetzner_placeholder_address"]
    assert f"ansible_host: {placeholder} # placeholder" in (ROOT / "inventories/prod/hosts.yml").read_text()
    assert f"new_placeholder_address: {placeholder}\n" in (ROOT / "playbooks/new.yml").read_text()


def test_the_libraries_are_pinned_to_what_the_project_has() -> None:
    pinned = re.findall(r"^([a-z-]+==\S+)", (ROLE / "files/requirements.txt").read_text(), re.MULTILINE)
    assert {pin.partition("==")[0] for pin in pinned} >= {"python-dateutil", "requests"}
    project = (ROOT / "requirements.lock").read_text()
    assert [
        pin
        for pin in pinned
        if pin.partition("==")[0] in ("requests", "urllib3", "certifi") and f"\n{pin} " not in project
    ] == []


READY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: openmates.server.hetzner, tasks_from: ready}
"""


def ready(folder: Path, version: str, **environment: str) -> str:
    """The output of the first check with a collection of this version."""
    collection = folder / "ansible_collections/hetzner/hcloud"
    collection.mkdir(parents=True)
    manifest = {"collection_info": {"namespace": "hetzner", "name": "hcloud", "version": version}}
    (collection / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "ready.yml").write_text(READY)
    paths = f"{folder}:{ROOT / 'collections'}"
    result = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "ready.yml", "-i", "localhost,"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": paths, "HCLOUD_TOKEN": "", **environment},
    )  # fmt: skip
    assert result.returncode == 2, result.stdout + result.stderr
    return " ".join(result.stdout.split())


def test_a_collection_that_the_api_breaks_is_refused(tmp_path: Path) -> None:
    """6.3.0 is the last one that reads the field which the API removed."""
    output = ready(tmp_path, "6.3.0")
    assert "hetzner.hcloud 6.3.0 is too old: 6.4.0 or later is needed" in output
    assert (
        "changelog#2025-12-16-phasing-out-datacenters" in output and "Python 3.12 and later has a newer one" in output
    )


def test_a_missing_library_is_named_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "dateutil.py").write_text("raise ImportError(\"No module named 'dateutil'\")\n")
    output = ready(tmp_path, "6.4.0", PYTHONPATH=str(tmp_path))
    assert "No module named 'dateutil'" in output
    command = re.search(r"`\S+ -m pip install --require-hashes -r (\S+)`", output)
    assert command and Path(command[1]).samefile(ROLE / "files/requirements.txt")


def test_without_a_token_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "dateutil.py").write_text("")
    output = ready(tmp_path, "6.12.0", PYTHONPATH=str(tmp_path))
    assert "There is no token for Hetzner's API" in output and "openmates_hcloud_token" in output
