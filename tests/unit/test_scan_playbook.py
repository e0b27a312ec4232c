"""playbooks/scan.yml, which needs neither an inventory nor a login; and the names that it resolves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.openmates.server.plugins.lookup.addresses import LookupModule
from rendering import ROOT
from test_outside_probe import listener


def scan(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A run of it in an empty directory."""
    command = [Path(sys.executable).parent / "ansible-playbook", ROOT / "playbooks/scan.yml"]
    given = [part for argument in arguments for part in ("-e", argument)]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    environment.pop("ANSIBLE_CONFIG", None)
    return subprocess.run([*command, *given], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_an_undeclared_port_ends_it_with_an_error_that_names_it(tmp_path: Path) -> None:
    with listener("127.0.0.1") as declared, listener("127.0.0.1") as planted, listener("::1", False) as closed:
        run = scan(tmp_path, "scan_servers=127.0.0.1", f"scan_ports={declared},{closed}", "scan_families=ipv4")
    words = " ".join(run.stdout.split())
    assert run.returncode != 0 and str(planted) in words and "accept connections at 127.0.0.1. verify.yml" in words
    assert f"Port {closed} must be open and is closed at 127.0.0.1" in words
    assert f"Port {declared} " not in words


@pytest.mark.parametrize("wrong", ["scan_ports=22,https", "scan_ports=99999", "scan_families=ipv5"])
def test_what_is_no_port_or_family_is_refused_before_a_scan(tmp_path: Path, wrong: str) -> None:
    run = scan(tmp_path, "scan_servers=name.invalid", "scan_ports=22", wrong)
    words = " ".join(run.stdout.split())
    assert run.returncode != 0 and "Nothing was scanned: scan_ports has to be numbers" in words
    assert wrong.partition("=")[2] in words and "leads nowhere" not in words


def test_names_are_resolved_for_both_families_and_each_address_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [v6, v4, v4])
    assert LookupModule().run(["api.example.com", "cms.example.com"]) == ["192.0.2.1", "2001:db8::1"]


def test_a_name_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(AnsibleError, match="leads nowhere"):
        LookupModule().run(["nowhere.invalid"])


def test_the_workflow_has_no_rights_and_no_secret() -> None:
    text = (ROOT / "files/scheduled/scan-from-github.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {} and "secrets." not in text
    assert "openmates.server.scan" in workflow["jobs"]["scan"]["steps"][-1]["run"]
