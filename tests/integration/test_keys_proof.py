"""Keys are proven to open a Vault, or are not, and nothing is left behind."""

from __future__ import annotations

import base64
import json
import os

import hvac
import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.openmates.server.plugins.module_utils.vault import tokens
from vault_site import PASSWORD, Site

RECORD = "vault-keys.json"


@pytest.fixture(scope="module")
def site(provisioned: Site) -> Site:
    """The provisioned host, without the root token with which the test's own code looked at it."""
    root = provisioned.root()
    tokens.revoke(root, lambda token: "root" in token["policies"])
    root.auth.token.revoke_self()
    return provisioned


def check(site: Site, *arguments: str, again: bool = True, **variables: object) -> dict:
    """The result of the entry point, as keys_check.yml uses it."""
    result = site.folder / "result.json"
    given = {"vault_keys_prove": again, "vault_keys_prove_again": again, **variables}
    content = {"dest": str(result), "content": "{{ vault_keys_state | to_json }}"}
    tasks = [
        {"ansible.builtin.import_role": {"name": "vault", "tasks_from": "keys"}},
        {"ansible.builtin.copy": content, "check_mode": False},
    ]
    run = site.play(tasks, *arguments, **given)
    assert run.code == 0, run.output
    return json.loads(result.read_text())


def keys_file(site: Site, name: str, password: bytes = PASSWORD, **content: object) -> str:
    path = site.folder / "copies" / name
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({**site.keys(), **content})
    path.write_bytes(VaultLib([("default", VaultSecret(password))]).encrypt(text))
    return str(path)


def attempt(site: Site) -> dict:
    return hvac.Client(site.bao.root_url, token="").adapter.get("/v1/sys/generate-root/attempt")


def assert_nothing_left(site: Site) -> None:
    """No generation of a root token is under way, and no root token exists but the one that looks."""
    assert not attempt(site)["started"]
    assert not (site.state / "vault-root").exists()
    root = site.root()
    found = [
        root.auth.token.lookup_accessor(accessor)["data"]["policies"]
        for accessor in root.auth.token.list_accessors()["data"]["keys"]
    ]
    root.auth.token.revoke_self()
    assert [policies for policies in found if "root" in policies] == [["root"]]


def test_the_first_run_proves_the_keys_and_later_ones_only_compare(site: Site) -> None:
    record = json.loads((site.state / RECORD).read_text())
    assert len(record["proven"]) == 3 and record["by"] == "site.yml" and record["cluster"]
    state = check(site, again=False)
    assert (state["ok"], state["changed"]) == (True, False) and "3 shares" in state["sentence"], state
    again = site.play()
    assert again.changed == 0, again.output
    assert_nothing_left(site)


def test_a_copy_is_proven(site: Site) -> None:
    other = site.folder / "other-password"
    other.write_text("of the copy")
    copy = keys_file(site, "copy.yml", b"of the copy")
    state = check(site, vault_checked_keys_file=copy, vault_checked_password_file=str(other))
    assert state["ok"] and "keys_check.yml" in state["sentence"], state
    dry = check(site, "--check", vault_checked_keys_file=copy, vault_checked_password_file=str(other))
    assert dry["changed"]
    given = check(site, vault_given_shares=site.keys()["unseal_shares"][1:])
    assert given["ok"], given
    assert_nothing_left(site)


def test_each_wrong_copy_is_found_and_nothing_is_left(site: Site, seen: dict) -> None:
    shares = site.keys()["unseal_shares"]
    foreign = [base64.b64encode(os.urandom(33)).decode() for _ in range(3)]
    damaged = base64.b64encode(bytes([base64.b64decode(shares[2])[0] ^ 1]) + base64.b64decode(shares[2])[1:]).decode()
    seen["secrets"] |= {*foreign, damaged}
    cases = {
        "cannot be decrypted": ("password.yml", {"password": b"another"}, "problem"),
        "do not open this Vault": ("foreign.yml", {"unseal_shares": foreign}, "problem"),
        "at least one is damaged": ("damaged.yml", {"unseal_shares": [*shares[:2], damaged]}, "problem"),
        "has 1 different shares": ("few.yml", {"unseal_shares": [shares[0], shares[0]]}, "problem"),
        "share 2 of 3 has not the form": ("form.yml", {"unseal_shares": [shares[0], "short", shares[1]]}, "problem"),
        "encrypted for their holders": ("pgp.yml", {"unseal_shares": [], "pgp_shares": ["x", "y"]}, "unproven"),
    }
    for words, (name, content, expected) in cases.items():
        state = check(site, vault_checked_keys_file=keys_file(site, name, **content))
        assert state["state"] == expected and words in state["sentence"] and not state["ok"], (name, state)
        assert_nothing_left(site)
    missing = check(site, vault_checked_keys_file=str(site.folder / "copies/missing.yml"))
    assert missing["state"] == "unproven" and "there is no keys file" in missing["sentence"]
    assert check(site)["ok"], "the right ones are proven again"


def test_a_generation_of_another_is_not_touched_and_that_of_a_killed_check_is_continued(site: Site) -> None:
    maker = hvac.Client(site.bao.root_url, token="")
    nonce = maker.adapter.put("/v1/sys/generate-root/attempt", json={})["nonce"]
    state = check(site)
    assert state["state"] == "unproven" and "Another generation" in state["sentence"], state
    assert attempt(site)["nonce"] == nonce
    (site.state / "vault-root").write_text(json.dumps({"init_id": nonce}))
    assert check(site)["ok"]
    assert not attempt(site)["started"]
    assert (site.state / "vault-root").exists(), "its token may exist: site.yml revokes it"
    assert "root tokens: 0 revoked" in site.play().output
    assert_nothing_left(site)


def test_a_sealed_vault_is_compared_and_not_opened(site: Site) -> None:
    site.bao.restart()
    assert check(site)["ok"], "proven before"
    (site.state / RECORD).unlink()
    state = check(site)
    assert state["state"] == "unproven" and "Vault is sealed" in state["sentence"], state
    assert site.bao.client().sys.is_sealed()
    assert site.play().code == 0
    assert check(site, again=False)["ok"]
    assert_nothing_left(site)


def test_no_secret_was_printed_or_left_in_a_file(search_for_secrets) -> None:
    search_for_secrets()
