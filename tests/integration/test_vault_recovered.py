"""A Vault that was sealed, whose tokens or logins were lost, or that is restored from a snapshot."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess

import hvac
import pytest


def test_a_sealed_vault_is_unsealed_and_a_lost_token_replaced(provisioned):
    site = provisioned
    keys = site.keys_file.read_bytes()
    site.root().auth.token.revoke(site.token())
    site.bao.restart()
    assert site.bao.client().sys.is_sealed()

    check = site.play(None, "--check")
    assert check.code == 0, check.output
    assert check.changed == 1
    assert site.bao.client().sys.is_sealed()

    run = site.play()
    assert run.code == 0, run.output
    assert "to be issued, because it is not valid" in run.output
    assert site.root().auth.token.lookup(site.token())["data"]["orphan"]
    assert site.keys_file.read_bytes() == keys


def test_a_root_token_from_the_shares_alone(provisioned):
    """The managing identity's secret is lost, and an operator needs a root token: the shares are enough for both."""
    site = provisioned
    site.access_file.unlink()
    repaired = site.play()
    assert repaired.code == 0 and "because the managing identity cannot log in" in repaired.output, repaired.output
    made = site.role("root")
    assert made.code == 0, made.output
    token = site.keys(site.folder / "keys" / "keys.root.yml")["root_token"]
    site.secrets.add(token)
    assert site.bao.client(token).auth.token.lookup_self()["data"]["policies"] == ["root"]
    assert site.play().code == 0
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(token).auth.token.lookup_self()
    assert site.play().changed == 0


def test_the_host_unseals_vault_and_keeps_the_token_by_itself(provisioned):
    site = provisioned
    for name in ("shares", "api"):
        assert stat.S_IMODE((site.host / f"credentials/openmates-vault-{name}").stat().st_mode) == 0o600
    site.bao.restart()
    assert site.service("token") == (0, ""), "nothing to say: the unit that unseals is at it"
    assert site.service("unseal") == (0, "Vault was sealed, and is open again\n")
    assert site.service("unseal") == (0, "")

    site.root().auth.token.revoke(site.token())
    old = site.token()
    code, said = site.service("token")
    assert (code, said) == (0, "The services have a new token, because the one they had is not valid\n")
    assert site.token() != old and site.service("token") == (0, "")
    site.learn_secrets()

    operator = site.play(vault_unseal="operator")
    assert operator.code == 0, operator.output
    assert [path.name for path in (site.host / "credentials").iterdir()] == ["openmates-vault-api"]
    assert list(site.host.glob("openmates-vault-unseal.*")) == [site.host / "openmates-vault-unseal.service.said"]
    site.bao.restart()
    code, said = site.service("token")
    assert code == 1 and "unseal.yml" in said
    opened = site.role("operator", vault_unseal="operator")
    assert opened.code == 0, opened.output
    assert site.service("token") == (0, "")
    assert site.play().code == 0, "back to the host"

    shares = site.host / "credentials/openmates-vault-shares"
    right = shares.read_bytes()
    wrong = {"init_id": "x", "shares": [base64.b64encode(os.urandom(33)).decode() for _ in range(2)]}
    seal = [site.commands / "systemd-creds", "encrypt", "--name=openmates-vault-shares", "-"]
    done = subprocess.run(seal, input=json.dumps(wrong).encode(), capture_output=True, env=site.environment())
    shares.write_bytes(done.stdout)
    site.bao.restart()
    code, said = site.service("unseal")
    assert code == 1 and "do not open this Vault" in said
    shares.write_bytes(right)
    assert site.service("unseal")[0] == 0
    site.bao.stop()
    code, said = site.service("unseal", patience=1)
    assert code == 1 and "Nothing answers at" in said
    site.bao.start()
    assert site.service("unseal")[0] == 0


def test_a_failed_service_is_reported_with_its_log(provisioned):
    site = provisioned
    script = "echo the first >&2; echo the reason >&2; exit 1"
    unit = f"ExecStart=/bin/sh -c '{script}'\nLoadCredentialEncrypted=openmates-vault-api\n"
    arguments = {
        "keys_file": str(site.keys_file),
        "shares_credential": str(site.host / "credentials/openmates-vault-shares"),
        "files": [{"path": str(site.host / "failing.service"), "content": unit}],
        "units": [{"name": "failing.service", "state": "run"}],
    }
    run = site.play([{"openmates.server.vault_host": arguments}])
    assert run.code != 0 and "failing.service failed: the first the reason" in run.output, run.output
    assert "Failed to start" not in run.output


def test_a_snapshot_comes_back_onto_a_new_vault_without_its_tokens(provisioned, make_site):
    site = provisioned
    root = site.root()
    revoked = root.auth.token.create_orphan(policies=["default"])["auth"]["client_token"]
    snapshot = site.folder / "taken.snap"
    files = {"vault_snapshot_file": str(snapshot), "vault_snapshot_on_host": str(site.host / "vault.snap")}
    taken = site.role("snapshot", **files)
    assert taken.code == 0, taken.output
    assert not (site.host / "vault.snap").exists()
    root.auth.token.revoke(revoked)
    old_login = site.keys(site.access_file)["secret_id"]
    before = root.secrets.kv.v2.read_secret_version("providers/sample", mount_point="kv", raise_on_deleted_version=True)

    refused = site.role("restore", **files)
    assert refused.code != 0 and "vault_restore_replace=true" in refused.output
    damaged_file = site.folder / "damaged.snap"
    damaged_file.write_bytes(snapshot.read_bytes()[: snapshot.stat().st_size // 2])
    site.bao.reset()
    refused = site.role("restore", **{**files, "vault_snapshot_file": str(damaged_file)})
    assert refused.code != 0 and "cut short" in refused.output
    assert not site.bao.client().sys.is_initialized()
    stopped = site.play()
    assert stopped.code != 0 and "vault_restore.yml" in stopped.output

    restored = site.role("restore", **files)
    assert restored.code == 0, restored.output
    assert not list(site.host.glob(".vault-*")) and [path.name for path in site.state.iterdir()] == ["vault-keys.json"]
    root = site.root()
    after = root.secrets.kv.v2.read_secret_version("providers/sample", mount_point="kv", raise_on_deleted_version=True)
    assert after["data"]["data"] == before["data"]["data"]
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(revoked).auth.token.lookup_self()
    site.secrets.add(old_login)
    assert site.bao.client(site.token()).auth.token.lookup_self()["data"]["orphan"]
    assert site.play().changed == 0

    # As restore.yml does it: the snapshot is on the host, where a repeated run needs it.
    on_host = site.host / "fetched.snap"
    on_host.write_bytes(snapshot.read_bytes())
    files = {"vault_snapshot_file": "", "vault_snapshot_on_host": str(on_host)}
    keys = site.keys_file.rename(site.keys_file.with_suffix(".away"))
    missing = site.role("restore_keys")
    assert missing.code != 0 and "Copy the keys file of the snapshot's Vault there" in missing.output
    keys.rename(site.keys_file)
    assert site.role("restore_keys").code == 0
    old_token = site.token()
    site.bao.reset()
    again = site.role("replace", **files)
    assert again.code == 0, again.output
    assert on_host.exists() and site.token() != old_token
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(old_token).auth.token.lookup_self()
    site.learn_secrets()
    assert site.play().changed == 0


def test_an_open_vault_takes_a_later_snapshot_of_itself_without_its_tokens(provisioned):
    """As move.yml does it while clients wait."""
    site = provisioned
    root = site.root()
    revoked = root.auth.token.create_orphan(policies=["default"])["auth"]["client_token"]
    kept = {"path": "chat-aes-keys/late", "mount_point": "kv"}
    root.secrets.kv.v2.create_or_update_secret(secret={"key": "of a chat"}, **kept)
    taken = site.folder / "later.snap"
    files = {"vault_snapshot_file": str(taken), "vault_snapshot_on_host": str(site.host / "taken.snap")}
    assert site.role("snapshot", **files).code == 0
    on_host = site.host / "later.snap"
    on_host.write_bytes(taken.read_bytes())
    root.auth.token.revoke(revoked)
    root.secrets.kv.v2.delete_metadata_and_all_versions(**kept)
    old_token = site.token()

    damaged = site.host / "half.snap"
    damaged.write_bytes(on_host.read_bytes()[:-600])
    refused = site.role("refresh", vault_snapshot_on_host=str(damaged))
    assert refused.code != 0 and "cut short" in refused.output
    assert site.bao.client(old_token).auth.token.lookup_self()

    done = site.role("refresh", vault_snapshot_on_host=str(on_host))
    assert done.code == 0, done.output
    assert [path.name for path in site.state.iterdir()] == ["vault-keys.json"]
    found = site.root().secrets.kv.v2.read_secret_version(**kept, raise_on_deleted_version=True)
    assert found["data"]["data"] == {"key": "of a chat"}
    for token in (revoked, old_token):
        with pytest.raises(hvac.exceptions.Forbidden):
            site.bao.client(token).auth.token.lookup_self()
    assert site.bao.client(site.token()).auth.token.lookup_self()["data"]["orphan"]
    site.learn_secrets()
    assert site.play().changed == 0


def test_no_secret_was_printed_or_left_in_a_file(search_for_secrets):
    search_for_secrets()
