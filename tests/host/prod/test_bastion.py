"""A server that only a bastion may reach by SSH is provisioned and verified through it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from outside import LAB
from tunnels import left, tunnel

from lab import wait_until


@pytest.fixture
def through_the_bastion(neighbour, tmp_path: Path) -> dict:
    """The settings of an operator who connects through the neighbour."""
    key = neighbour.run("cat /etc/ssh/ssh_host_ed25519_key.pub").rpartition(" ")[0]
    known = (LAB / "known_hosts").read_text()
    (tmp_path / "known").write_text(f"{known}{neighbour.addresses[0]} {key}\n")
    (tmp_path / "config").write_text(
        f"Host *\n  IdentityFile {LAB.resolve()}/id_ed25519\n  UserKnownHostsFile {tmp_path}/known\n"
        "  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
    )
    return {
        "openmates_ssh_bastion": f"root@{neighbour.addresses[0]}",
        "ansible_ssh_common_args": f"-F {tmp_path}/config",
        "ansible_control_path_dir": str(tmp_path),  # or a run would use a way that an earlier one has left open
    }


def test_a_server_behind_a_bastion_is_provisioned_and_verified(server, ssh, neighbour, through_the_bastion):
    closed = {**through_the_bastion, "openmates_ssh_sources": [f"{neighbour.addresses[0]}/32", neighbour.addresses[1]]}
    try:
        run = server.playbook("site.yml", "--tags", "ssh,firewall", "-e", json.dumps(closed))
        assert run.returncode == 0, run.stdout[-3000:]
        assert not ssh.works()
        for address in server.addresses:
            assert neighbour.reaches(f"tcp {address} 22")
        verified = server.playbook("playbooks/verify.yml", "-e", json.dumps(closed))
        assert verified.returncode == 0 and "not from here" in verified.stdout, verified.stdout[-3000:]
    finally:
        run = server.playbook("site.yml", "--tags", "ssh,firewall", "-e", json.dumps(through_the_bastion))
    assert run.returncode == 0 and ssh.works(), run.stdout[-3000:]


def test_a_tunnel_goes_through_the_bastion(server, neighbour, through_the_bastion):
    with tunnel(server, "grafana", "-e", json.dumps(through_the_bastion)) as (_, port, _):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=20) as answer:
            assert answer.status == 200
        assert neighbour.addresses[0] in server.run("ss -Htn state established sport = :22")
    wait_until(lambda: not left(), "the tunnel's processes have ended", 5)
