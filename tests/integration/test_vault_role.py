"""The vault role in the order check, run, check, run, change; and what is and is not allowed afterwards."""

from __future__ import annotations

import base64
import re
import stat

import hvac
import pytest
from ansible_collections.openmates.server.plugins.module_utils.vault import tokens
from vault_site import SEED, Run, Site


@pytest.fixture(scope="module")
def provisioned(make_site) -> Site:
    """A host on which the role ran once, after a run in check mode that left it untouched."""
    site = make_site("provisioned")

    check = site.play(None, "--check")
    assert check.code == 0, check.output
    assert check.changed > 0
    assert list(site.host.iterdir()) == [] and not site.keys_file.exists()
    assert site.bao.client().sys.is_initialized() is False

    site.provision()
    return site


def test_after_check_and_run_both_change_nothing(provisioned):
    site = provisioned
    assert not site.marker.exists()
    assert stat.S_IMODE(site.keys_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in site.keys_file.parent.iterdir()) == ["keys.access.yml", "keys.yml"]
    assert len(site.keys()["unseal_shares"]) == 3
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o400
    keys, token = site.keys_file.read_bytes(), site.token()

    for arguments in (["--check"], []):
        again = site.play(None, *arguments)
        assert (again.code, again.changed) == (0, 0), again.output
        assert again.calls == ["vault_config", "vault_host", "vault_keys"], "nothing to do: three calls to the host"
    assert (site.keys_file.read_bytes(), site.token()) == (keys, token)


def test_drift_is_foretold_and_put_right_and_rotated_secrets_stay(provisioned):
    site, root = provisioned, provisioned.root()
    root.sys.create_or_update_acl_policy("api-service", 'path "secret/*" { capabilities = ["read"] }')
    root.sys.create_or_update_acl_policy("of-another-operator", 'path "secret/*" { capabilities = ["read"] }')
    root.secrets.kv.v2.create_or_update_secret("providers/sample", {"api_key": "rotated"}, mount_point="kv")
    root.secrets.kv.v2.create_or_update_secret("providers/other", {"api_key": "by hand"}, mount_point="kv")
    root.secrets.kv.v2.create_or_update_secret("providers/gone", {"api_key": "x"}, mount_point="kv")
    root.secrets.kv.v2.delete_latest_version_of_secret("providers/gone", mount_point="kv")
    old = site.token()
    changed = {
        "vault_token_period": "48h",
        "vault_seeds": {path: {"api_key": SEED} for path in ("providers/sample", "providers/gone", "providers/new")},
    }

    def names(run: Run) -> list[str]:
        return re.findall(r"^\+((?:policy|token|seed|engine) .*)$", run.output, re.M)

    foretold = site.play(None, "--check", **changed)
    assert foretold.code == 0, foretold.output
    assert "48h" not in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert "secret/*" in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert site.token() == old

    done = site.play(None, **changed)
    assert done.code == 0, done.output
    assert (
        names(foretold)
        == names(done)
        == [
            "policy api-service: updated",
            f"token in {site.token_file}: to be issued, because it has another period",
            "seed kv/providers/new: written",
        ]
    )
    read = root.secrets.kv.v2.read_secret_version
    assert "secret/*" not in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert "secret/*" in root.sys.read_acl_policy("of-another-operator")["data"]["policy"]
    assert read("providers/sample", mount_point="kv", raise_on_deleted_version=False)["data"]["data"] == {
        "api_key": "rotated"
    }
    assert read("providers/new", mount_point="kv", raise_on_deleted_version=False)["data"]["data"] == {"api_key": SEED}
    assert site.token() != old
    assert site.play(None, **changed).changed == 0
    site.variables.update(changed)


def test_the_service_token_follows_the_contract(provisioned):
    root, token = provisioned.root(), provisioned.token()
    found = root.auth.token.lookup(token)["data"]
    assert found["orphan"] is True
    assert found["policies"] == ["api-encryption", "api-service"]
    assert found["explicit_max_ttl"] == 0
    root.secrets.kv.v2.create_or_update_secret("providers/readable", {"api_key": "y"}, mount_point="kv")

    service = provisioned.bao.client(token)
    kv, transit = service.secrets.kv.v2, service.secrets.transit
    assert service.auth.token.lookup_self()["data"]["period"] == found["period"]
    assert service.auth.token.renew_self()["auth"]["lease_duration"] == found["period"]
    read = kv.read_secret_version("providers/readable", mount_point="kv", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"api_key": "y"}
    kv.create_or_update_secret("user-draft-aes-keys/one", {"key": "z"}, mount_point="kv")
    kv.delete_latest_version_of_secret("user-draft-aes-keys/one", mount_point="kv")
    transit.create_key("user_one")
    secret = transit.encrypt_data("user_one", base64.b64encode(b"text").decode())["data"]["ciphertext"]
    assert base64.b64decode(transit.decrypt_data("user_one", secret)["data"]["plaintext"]) == b"text"
    assert transit.generate_hmac("user_one", base64.b64encode(b"text").decode())["data"]["hmac"]

    for refused in (
        lambda: kv.create_or_update_secret("providers/readable", {"a": "b"}, mount_point="kv"),
        lambda: kv.delete_latest_version_of_secret("providers/readable", mount_point="kv"),
        lambda: kv.read_secret_metadata("providers/readable", mount_point="kv"),
        lambda: kv.read_secret_version("elsewhere", mount_point="kv", raise_on_deleted_version=True),
        lambda: transit.encrypt_data("never_made", base64.b64encode(b"text").decode()),
        lambda: transit.read_key("user_one", mount_point="other"),
        lambda: service.auth.token.create(),
        lambda: service.auth.token.lookup(provisioned.keys()["root_token"]),
        lambda: service.sys.list_mounted_secrets_engines(),
        lambda: service.sys.list_policies(),
        lambda: service.sys.seal(),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            refused()


def test_no_root_token_is_left_and_none_is_needed(provisioned):
    """The runs after the first one were made while no root token was valid, and the ones before this left none."""
    site = provisioned
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(site.keys()["root_token"]).auth.token.lookup_self()
    site.play()  # ends the root tokens that the tests made
    (site.host / ".vault-root").write_text('{"init_id": "root"}')  # as an older version left it
    check = site.play(None, "--check")
    assert re.findall(r"^\+(root tokens: .*)$", check.output, re.M)
    assert (site.host / ".vault-root").exists() and not (site.state / "vault-root").exists()
    again = site.play()
    assert re.findall(r"^\+(root tokens: .*)$", again.output, re.M)
    assert again.calls == ["vault_config", "vault_host", "vault_keys"]
    assert not list(site.host.rglob("*vault-root"))
    root = site.root()
    mine = root.auth.token.lookup_self()["data"]["accessor"]
    left = [token for token in tokens.tokens(root) if "root" in token["policies"] and token["accessor"] != mine]
    assert left == []


def test_a_widened_managing_identity_is_put_right_with_the_shares(provisioned):
    site, root = provisioned, provisioned.root()
    root.sys.create_or_update_acl_policy("openmates-manage", 'path "*" { capabilities = ["sudo", "read"] }')
    foretold, done = site.play(None, "--check"), site.play()
    for run in (foretold, done):
        assert run.code == 0, run.output
        assert "+login openmates-manage: repaired with a root token, because the managing identity may do" in run.output
    assert site.root().sys.read_acl_policy("openmates-manage")["data"]["policy"].strip() == site.policy.strip()
    manager = tokens.log_in(site.bao.url, "openmates-manage", site.keys(site.access_file)["secret_id"], 5)
    policy = 'path "*" { capabilities = ["sudo"] }'
    for refused in (
        lambda: manager.sys.create_or_update_acl_policy("openmates-manage", policy),
        lambda: manager.sys.create_or_update_acl_policy("another", policy),
        lambda: manager.adapter.post("/v1/auth/approle/role/openmates-manage", json={"token_policies": ["root"]}),
        lambda: manager.secrets.kv.v2.read_secret_version(
            "chat-aes-keys/x", mount_point="kv", raise_on_deleted_version=True
        ),
        lambda: manager.auth.token.create(policies=["root"]),
        lambda: manager.sys.take_raft_snapshot(),
        lambda: manager.sys.seal(),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            refused()


def test_seeds_are_ensured_enforced_or_generated_and_one_is_rotated(provisioned, seen):
    site = provisioned
    seen["secrets"] |= {"canary-enforced-1", "canary-rotated-2", "canary-by-hand-3"}
    seeds = {
        "providers/plain": {"ensure": {"api_key": SEED}},
        "providers/strict": {"enforce": {"api_key": "canary-enforced-1"}},
        "system/made": {"generate": {"key": 40}},
    }
    first = site.play(vault_seeds=seeds)
    assert first.code == 0, first.output
    kv = site.root().secrets.kv.v2

    def read(path: str) -> dict:
        return kv.read_secret_version(path, mount_point="kv", raise_on_deleted_version=True)["data"]

    made = read("system/made")["data"]["key"]
    assert re.fullmatch(r"[A-Za-z0-9]{40}", made)
    seen["secrets"].add(made)
    by_hand = {"api_key": "canary-by-hand-3", "more": "canary-by-hand-3"}
    for path in ("providers/plain", "providers/strict"):
        kv.create_or_update_secret(path, by_hand, mount_point="kv")
    second = site.play(vault_seeds=seeds)
    assert "+seed kv/providers/strict: corrected" in second.output and "providers/plain: " not in second.output
    assert "Vault keeps its own api_key of kv/providers/plain" in second.output
    assert read("providers/plain")["data"] == by_hand
    assert read("providers/strict")["data"] == {**by_hand, "api_key": "canary-enforced-1"}
    assert read("system/made")["data"]["key"] == made
    assert site.play(vault_seeds=seeds).changed == 0

    fields = {"vault_rotate_fields": {"api_key": "canary-rotated-2"}, "vault_rotate_services": [], "vault_seeds": seeds}
    rotated = site.role("rotate", vault_rotate_path="providers/plain", **fields)
    assert rotated.code == 0, rotated.output
    after = read("providers/plain")
    assert (after["data"]["api_key"], after["data"]["more"]) == ("canary-rotated-2", "canary-by-hand-3")
    versions = kv.read_secret_metadata("providers/plain", mount_point="kv")["data"]["versions"]
    assert {int(n): version["destroyed"] for n, version in versions.items()} == {1: True, 2: True, 3: False}
    refused = site.role("rotate", vault_rotate_path="providers/strict", **fields)
    assert refused.code != 0 and "enforced by the inventory" in refused.output


def test_check_mode_works_where_there_is_no_vault_yet(make_site):
    site = make_site("bare")
    site.bao.stop()
    for url in ("", site.bao.url):
        run = site.play(None, "--check", vault_url=url)
        assert run.code == 0, run.output
        assert run.changed > 0
    assert list(site.host.iterdir()) == []


def test_no_secret_was_printed_or_left_in_a_file(search_for_secrets):
    search_for_secrets()
