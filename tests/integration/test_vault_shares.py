"""The unseal shares and the keys file: who holds them, and a clear error for each mismatch."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port


@pytest.mark.parametrize("sealed", [True, False])
def test_killed_between_custody_and_the_end_of_the_marker(provisioned, sealed):
    site = provisioned
    site.mark(site.keys()["init_id"])
    keys = site.keys_file.read_bytes()
    if sealed:
        site.bao.restart()
    else:
        site.token_file.chmod(0o444)
    run = site.play()
    assert run.code == 0, run.output
    assert not site.marker.exists()
    assert site.keys_file.read_bytes() == keys
    if not sealed:
        assert "owner and mode corrected" in run.output
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o400


@pytest.fixture
def gpg(tmp_path) -> Iterator[list[str]]:
    """GnuPG with a key ring of its own, up to the arguments that say what to do."""
    tmp_path.chmod(0o700)
    home = ["--homedir", str(tmp_path)]
    yield ["gpg", *home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    subprocess.run(["gpgconf", *home, "--kill", "all"], check=True)  # its agent would live on


def test_pgp_encrypted_shares(make_site, gpg):
    """With PGP keys the shares are encrypted before they leave Vault, and their holders are asked for them."""
    site = make_site("pgp")
    subprocess.run([*gpg, "--quick-generate-key", "holder@example.org", "default", "default"], check=True)
    key = base64.b64encode(subprocess.run([*gpg, "--export"], capture_output=True, check=True).stdout).decode()
    pgp = {"vault_pgp_keys": [key] * 3, "vault_unseal": "operator"}
    first = site.play(**pgp)
    assert first.code != 0 and "those who hold them have to run unseal.yml" in first.output
    assert set(site.keys()) == {"init_id", "unseal_threshold", "pgp_shares", "root_token"}
    shares = [
        subprocess.run(
            [*gpg, "--decrypt"], input=base64.b64decode(share), capture_output=True, check=True
        ).stdout.decode()
        for share in site.keys()["pgp_shares"]
    ]
    site.secrets |= set(shares)
    opened = site.role("operator", vault_given_shares=shares[:2], **pgp)
    assert not site.bao.client().sys.is_sealed(), opened.output
    second = site.play(**pgp)
    assert second.code == 0, second.output
    assert site.play(**pgp).changed == 0
    refused = site.play(**{**pgp, "vault_unseal": "host"})
    assert refused.code != 0 and "Set openmates_vault_unseal: operator" in refused.output


def damaged(share: str) -> str:
    """The share with its key's first byte changed."""
    raw = bytearray(base64.b64decode(share))
    raw[0] ^= 1
    return base64.b64encode(raw).decode()


def test_one_clear_error_each_and_nothing_changed(provisioned, make_site, seen):
    site, empty = provisioned, make_site("empty")
    site.bao.restart()
    shares = site.keys()["unseal_shares"]
    foreign = [base64.b64encode(os.urandom(33)).decode() for _ in range(3)]
    seen["secrets"] |= {*foreign, damaged(shares[1]), "bm90IGEgc2hhcmU!"}
    other_marker, no_marker = site.host / "other-marker", site.host / "no-marker"  # as directories of markers
    other_marker.mkdir()
    (other_marker / "vault-init").write_text(json.dumps({"init_id": "another"}))
    no_keys = site.folder / "keys" / "missing.yml"
    (empty.folder / "not-a-directory").touch()
    keys = site.keys_file.read_bytes()
    root_url = site.bao.root_url

    def unseal(given: list[str], url: str = site.bao.url, deadline: int = 60) -> dict:
        return {"openmates.server.vault_unseal": {"url": url, "shares": given, "deadline": deadline}}

    def init(keys_file: Path, state: Path, url: str = site.bao.url) -> dict:
        arguments = {"url": url, "keys_file": str(keys_file), "state_directory": str(state), "deadline": 60}
        return {"openmates.server.vault_init": arguments}

    def config(**arguments: object) -> dict:
        files = {"keys_file": str(site.keys_file), "access_file": str(site.access_file)}
        state = {"state_directory": str(no_marker)}
        given = {"url": site.bao.url, "deadline": 60, "access_policy": site.policy, **files, **state, **arguments}
        return {"openmates.server.vault_config": given}

    nowhere = f"http://127.0.0.1:{free_port()}"
    cases = [
        (unseal(shares[:1]), "Vault needs 2 different unseal shares, but only 1"),
        (unseal([shares[0], "bm90IGEgc2hhcmU!"]), "Unseal share 2 of 2 is neither base64 nor hex"),
        (unseal(foreign), "The unseal shares do not open this Vault"),
        (unseal([shares[0], damaged(shares[1])]), "The unseal shares do not open this Vault"),
        (unseal(shares, nowhere, deadline=1), "Is the Vault container running"),
        (unseal(shares, empty.bao.url), "Vault is not initialised"),
        (init(no_keys, no_marker), "Restore that file from"),
        (init(site.keys_file, other_marker), "keys of another initialisation"),
        (init(site.keys_file, no_marker, empty.bao.url), "move the keys file away"),
        (init(Path("keys.yml"), no_marker), "absolute path on the controller"),
        (init(no_keys, empty.folder / "not-a-directory", empty.bao.url), "marker"),
        (unseal(shares), None),
        (init(no_keys, other_marker), "Vault has been unsealed since"),
        (config(engines=[{"path": "transit", "type": "kv"}]), "already holds another engine"),
        (config(roles=[{"name": "openmates-api", "policies": ["a"], "period": "soon"}]), "is not a duration"),
        (config(seeds={"elsewhere/x": {"enforce": {"a": "a value"}}}), "is outside of what may be seeded"),
        (
            config(access_policy="# another", elevate=True, shares=foreign, root_url=root_url),
            "do not make a root token",
        ),
        (config(access_policy="# another", elevate=True, shares=shares[:1], root_url=root_url), "needs 2 different"),
    ]
    tasks = []
    for number, (task, _) in enumerate(cases):
        tasks.append({**task, "register": f"result_{number}", "ignore_errors": True})
    results = site.folder / "results.json"
    everything = ", ".join(f"result_{number}" for number in range(len(cases)))
    tasks.append({"ansible.builtin.copy": {"dest": str(results), "content": f"{{{{ [{everything}] | to_json }}}}"}})

    run = site.play(tasks)
    assert run.code == 0, run.output
    for (task, message), result in zip(cases, json.loads(results.read_text()), strict=True):
        if message is None:
            assert not result.get("failed"), (task, result)
        else:
            assert result.get("failed") and message in result["msg"], (list(task), message, result.get("msg"))
    seen["outputs"].append(results.read_text())
    assert empty.bao.client().sys.is_initialized() is False
    assert not no_keys.exists()
    assert (other_marker / "vault-init").exists()
    assert site.keys_file.read_bytes() == keys


def test_a_keys_file_of_another_password_stops_before_the_host_is_asked(provisioned):
    wrong = provisioned.folder / "wrong-password"
    wrong.write_text("another password")
    run = provisioned.play(None, "--vault-password-file", str(wrong))
    assert run.code != 0
    assert run.calls == []
    assert str(provisioned.keys_file) in run.output
    assert "Decryption failed" in run.output


def test_no_secret_was_printed_or_left_in_a_file(search_for_secrets):
    search_for_secrets()
