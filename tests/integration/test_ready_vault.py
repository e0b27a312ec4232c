"""ready.py's parts of Vault, with the token that the role issued and the policies that it wrote."""

from __future__ import annotations

import importlib.util

import pytest
from vault_site import ROOT

spec = importlib.util.spec_from_file_location("ready", ROOT / "files/compose/config/bin/ready.py")
ready = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ready)


@pytest.fixture
def failing(provisioned, monkeypatch):
    """A function that runs the probe and gives the failing parts with their details."""
    monkeypatch.setenv("VAULT_URL", provisioned.bao.url)

    def run() -> dict[str, str]:
        parts = ready.Parts()
        ready.Vault(parts, provisioned.token_file).check()
        assert set(parts._results) == {"vault_token", "vault_policy", "transit"}
        return {name: detail for name, (ok, detail) in parts._results.items() if not ok}

    return run


def test_all_is_well_after_the_role_and_the_probe_changes_nothing_but_its_key(provisioned, failing):
    for _ in range(2):
        assert failing() == {}
    root = provisioned.root()
    assert root.secrets.transit.list_keys()["data"]["keys"] == [ready.PROBE_KEY]
    assert "vapid" not in root.secrets.kv.v2.list_secrets("providers", mount_point="kv")["data"]["keys"]
    root.secrets.kv.v2.create_or_update_secret("providers/vapid", {"key": "x"}, mount_point="kv")
    assert failing() == {}
    read = root.secrets.kv.v2.read_secret_version("providers/vapid", mount_point="kv", raise_on_deleted_version=True)
    assert (read["data"]["metadata"]["version"], read["data"]["data"]) == (1, {"key": "x"})


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("api-encryption", "sys/mounts/transit", {"vault_policy": "the api's token may not read sys/mounts/transit"}),
        ("api-encryption", "transit/decrypt", {"transit": "Vault answers POST transit/decrypt"}),
        ("api-service", "providers/vapid", {"vault_policy": "the api's token may not write kv/data/providers/vapid"}),
    ],
)
def test_a_policy_without_a_path(provisioned, failing, policy, words, expected):
    text = (ROOT / f"roles/vault/files/policies/{policy}.hcl").read_text()
    root = provisioned.root()
    root.sys.create_or_update_acl_policy(policy, text.replace(words, "nowhere/else"))
    try:
        found = failing()
        assert set(found) == set(expected)
        assert all(found[name].startswith(detail) for name, detail in expected.items()), found
    finally:
        root.sys.create_or_update_acl_policy(policy, text)
    assert failing() == {}


def test_a_sealed_vault_and_a_revoked_token(provisioned, failing):
    root = provisioned.root()
    root.revoke_token(provisioned.token())
    assert "expired or revoked" in failing()["vault_token"]
    provisioned.bao.restart()
    assert failing()["vault_token"] == "Vault is sealed"
