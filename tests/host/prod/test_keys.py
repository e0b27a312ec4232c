"""Copies of the keys are proven against the running Vault, and wrong ones are found; nothing changes by it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import Server

RECORD = "/var/lib/openmates/vault-keys.json"


@pytest.fixture
def copy(server: Server, tmp_path: Path) -> Path:
    """A copy of the keys, kept elsewhere: a directory with a file per server."""
    folder = tmp_path / "vault-keys"
    folder.mkdir()
    shutil.copy(server.operator.keys / f"{server.name}.yml", folder)
    return folder


@pytest.fixture
def unchanged(server: Server) -> Iterator[None]:
    """Vault's container is the same, and no generation of a root token is under way."""
    before = server.containers()["vault"]["State"]["StartedAt"]
    yield
    assert server.containers()["vault"]["State"]["StartedAt"] == before
    ask = "docker exec openmates-vault-1 wget -qO- http://127.0.0.1:8202/v1/sys/generate-root/attempt"
    assert '"started":false' in server.run(ask).replace(" ", "")
    assert server.run("ls /var/lib/openmates").split().count("vault-root") == 0


def check(server: Server, *arguments: str) -> tuple[int, str]:
    done = server.playbook("playbooks/keys_check.yml", *arguments)
    return done.returncode, " ".join(done.stdout.split())


def test_a_copy_is_proven_and_verify_reports_the_keys(server: Server, copy: Path, unchanged: None) -> None:
    code, output = check(server, "-e", f"keys_file={copy}")
    assert code == 0 and f"{server.name}: proven (5 shares of {copy}/{server.name}.yml, 3 are needed" in output, output
    assert '"proven"' in server.run(f"cat {RECORD}")
    verified = server.playbook("playbooks/verify.yml")
    assert "Keys on this machine: ok (5 shares" in verified.stdout, verified.stdout


def test_a_wrong_password_and_foreign_shares_are_not_proven(server: Server, copy: Path, unchanged: None) -> None:
    password = copy.parent / "password"
    password.write_text("another")
    code, output = check(server, "-e", f"keys_file={copy}", "-e", f"keys_vault_password_file={password}")
    assert code != 0 and "not proven" in output and "cannot be decrypted" in output, output
    keys = dict(server.operator.vault_keys(server.name))
    keys["unseal_shares"] = [base64.b64encode(os.urandom(33)).decode() for _ in range(5)]
    file = copy / f"{server.name}.yml"
    file.write_text(yaml.safe_dump(keys))
    assert server.operator.run("ansible-vault", "encrypt", file).returncode == 0
    code, output = check(server, "-e", f"keys_file={file}")
    assert code != 0 and "do not open this Vault" in output, output
    assert not any(share in output for share in keys["unseal_shares"])
    code, output = check(server)
    assert code == 0, output
