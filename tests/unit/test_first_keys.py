"""Of the keys that let root in, the administrator gets those that sshd accepts after the hardening."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

VARIABLES = yaml.safe_load((Path(__file__).parents[2] / "roles/ssh/vars/main.yml").read_text())
KEY = "ssh-ed25519 AAAA someone"


def first_keys(text: str, given: tuple | list = ()) -> list[str]:
    """The keys that the role installs for the administrator, by the text of the current user's authorized_keys."""
    content = base64.b64encode(f"{text}\n".encode()).decode()
    known = {"ssh_keys": list(given), "ssh_former_keys": {"content": content}}
    templar = Templar(DataLoader(), known | {"ssh_accepted_keys": VARIABLES["ssh_accepted_keys"]})
    return templar.template(trust_as_template(VARIABLES["ssh_first_keys"]))


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
    key = Path(f"{file}.pub").read_text().strip()
    for line in (key, f'from="192.0.2.7" {key}'):
        assert first_keys(line) == ([line] if accepted else [])


def test_a_security_key_is_accepted() -> None:
    assert first_keys("sk-ssh-ed25519@openssh.com AAAA someone")


@pytest.mark.parametrize("line", [f"#{KEY}", f'command="echo hello" {KEY}', "", "ssh-dss AAAA"])
def test_what_gives_no_login_is_no_key(line: str) -> None:
    assert first_keys(line) == []


def test_keys_of_the_inventory_come_instead() -> None:
    assert first_keys(KEY, given=["a key of the inventory"]) == ["a key of the inventory"]
