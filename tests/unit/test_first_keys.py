"""Of the keys that let root in, the administrator gets those that sshd accepts after the hardening."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
ACCEPTED = yaml.safe_load((ROLES / "ssh/vars/main.yml").read_text())["ssh_accepted_keys"]


@pytest.mark.parametrize(
    ("kind", "bits", "accepted"),
    [
        ("ed25519", "256", True),
        ("rsa", "3072", True),
        ("rsa", "4096", True),
        ("rsa", "2048", False),
        ("ecdsa", "256", False),
    ],
)
def test_a_key_is_accepted_by_its_kind_and_size(tmp_path: Path, kind: str, bits: str, accepted: bool) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", file], check=True)
    line = f'from="192.0.2.7" {Path(f"{file}.pub").read_text()}'
    assert bool(re.search(ACCEPTED, line)) is accepted
    [tasks] = [task for task in yaml.safe_load((ROLES / "bootstrap/tasks/main.yml").read_text()) if "argv" in str(task)]
    command = [*tasks["ansible.builtin.command"]["argv"][:-1], "-"]
    assert (
        subprocess.run(command, input=line, text=True, capture_output=True, check=False).returncode == 0
    ) is accepted


def test_a_security_key_is_accepted() -> None:
    assert re.search(ACCEPTED, "sk-ssh-ed25519@openssh.com AAAA someone")
