"""A stranger's server is onboarded with one command; a run that is killed at any moment can be run again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from functools import partial
from pathlib import Path

import pytest
from killing import kill_at
from moments import FIRST_CONTACT, MOMENTS, Moment

from lab import ROOT, inventory

ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
#: A server that its provider lets root into by password, without Python, with an installation that a reset has
#: interrupted, and with another program that holds dpkg's lock for a minute.
STRANGER = """
rm -f /root/.ssh/authorized_keys
printf 'PermitRootLogin yes\\nPasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/50-cloud-init.conf
systemctl reload ssh
apt-get remove --yes -qq python3 python3-minimal && ! command -v python3
touch /var/lib/dpkg/updates/0001
systemd-run --quiet perl -MFcntl -e '
  open(my $lock, "+>", "/var/lib/dpkg/lock-frontend");
  fcntl($lock, F_SETLK, pack("ssqql", F_WRLCK, 0, 0, 0, 0)) or die;
  sleep 60'
"""


def name_of(host) -> str:
    """The host's name in the inventory."""
    return host.backend.name.removeprefix("openmates-lab-")


def playbook(host, name: str, *arguments: str) -> list[str]:
    return ["ansible-playbook", name, "-i", "inventories/lab", "--limit", name_of(host), *arguments]


@pytest.fixture(scope="module")
def stranger(host, tmp_path_factory) -> list[str]:
    """The arguments for a server that this machine does not know, and that accepts only a password."""
    folder = tmp_path_factory.mktemp("operator")
    password = folder / "password"
    password.touch(0o600)
    password.write_text(secrets.token_urlsafe(16) + "\n")
    result = host.run(STRANGER + f"echo 'root:{password.read_text().strip()}' | chpasswd")
    assert result.rc == 0, result.stderr
    settings = {
        "ansible_ssh_common_args": "",  # instead of the lab's, which knows all its hosts
        "openmates_known_hosts_file": str(folder / "known_hosts"),
        "openmates_ssh_keys": [(ROOT / ".lab/id_ed25519.pub").read_text().strip()],
        # The provider's console shows it.
        "bootstrap_fingerprints": [host.check_output("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]],
    }
    return ["--connection-password-file", str(password), "-e", json.dumps(settings)]


def chosen(moments: list[Moment]) -> list[Moment]:
    return [moment for moment in moments if moment.worst or os.environ.get("EVERY_MOMENT")]


def on_host(host, command: str) -> bool:
    return host.run(command).rc == 0


def run_and_kill(host, command: list[str], moment: Moment) -> None:
    """Start a playbook and kill it at that moment. Fails if the moment never comes."""
    kill_at(moment, command, partial(on_host, host), ROOT, ENVIRONMENT)


def run(command: list[str]) -> str:
    """Run a playbook to its end, which must be good. Returns its output."""
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def refused_with_a_password(user: str, address: str, password_file: Path, tmp_path: Path) -> str:
    """What ssh says to a login that tries the password and no key."""
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ncat {password_file}\n")
    ask.chmod(0o700)
    options = {
        **{"PubkeyAuthentication": "no", "ConnectTimeout": "10", "ControlPath": "none"},
        **{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"},
    }
    command = ["ssh", *(f"-o{name}={value}" for name, value in options.items()), f"{user}@{address}", "true"]
    environment = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 255, done.stdout
    return done.stderr


def test_killed_at_any_moment_it_ends_converged_with_nothing_lost(host, stranger, tmp_path):
    address = inventory(name_of(host))[1][0]
    password = Path(stranger[1])
    assert "(publickey,password)" in refused_with_a_password("nobody", address, password, tmp_path)
    onboard = playbook(host, "playbooks/bootstrap.yml", *stranger)
    for moment in chosen(FIRST_CONTACT):
        run_and_kill(host, onboard, moment)

    file = ROOT / f"inventories/vault-keys/lab/{name_of(host)}.yml"
    keys = None
    for moment in chosen(MOMENTS):
        run_and_kill(host, playbook(host, "site.yml"), moment)
        if keys is not None:
            assert file.read_bytes() == keys, f"the Vault keys changed after a kill at {moment}"
        elif file.exists() and moment.keyword == "openmates.server.vault_unseal":
            keys = file.read_bytes()

    run(onboard)  # it ends with verify
    assert file.read_bytes() == keys
    for user in ("root", "admin"):
        assert "Permission denied (publickey)." in refused_with_a_password(user, address, password, tmp_path)

    again = run(playbook(host, "site.yml"))
    assert "changed=0 " in again, again[-4000:]
