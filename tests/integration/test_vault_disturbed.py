"""Shares from an operator while the host's own unit is unsealing: each attempt ends the other."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hvac
import pytest
from ansible_collections.openmates.server.plugins.module_utils.vault import api as vault_api
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.modules import vault_restore, vault_unseal
from vault_site import Bao

RESET, WRONG, RIGHT = "reset", "wrong", "right"
#: What the host does before which of the module's calls: 0 is its reset, 1 to 3 are its shares, 4 its next reset.
BETWEEN_SHARES = {2: [RESET]}
WHOLE_ATTEMPT = {2: [RESET, WRONG, WRONG, WRONG]}
MIXED_UP = {3: [RESET, WRONG, WRONG]}
TWICE = {2: [RESET, WRONG, WRONG, WRONG], 7: [RESET, WRONG, WRONG]}
FASTER = {2: [RESET], 4: [RESET, RIGHT, RIGHT, RIGHT]}
EIGHT_TIMES = {number: [RESET] for number in range(2, 34, 4)}
ALWAYS = {number: [RESET] for number in range(2, 100, 4)}
FOREIGN = [base64.b64encode(os.urandom(33)).decode() for _ in range(3)]

Calls = list[dict]
Disturbed = Callable[..., Calls]


class Vault(Bao):
    """A server with a Vault, and its keys."""

    def initialise(self) -> None:
        self.start()
        made = self.client().sys.initialize(secret_shares=3, secret_threshold=3)
        self.shares, self.root_token = made["keys_base64"], made["root_token"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """A server with a sealed Vault."""
    server = Vault(tmp_path_factory.mktemp("disturbed") / "vault")
    server.initialise()
    yield server
    server.stop()


@pytest.fixture
def disturbed(server: Vault, monkeypatch: pytest.MonkeyPatch) -> Disturbed:
    """A function that makes the host act before some of the module's calls; returns all calls."""
    call = vault_api.Api.call

    def start(moments: dict[int, list[str]]) -> Calls:
        calls: Calls = []

        def call_disturbed(
            api: vault_api.Api, method: str, path: str, body: dict | None = None, token: str = ""
        ) -> tuple[int, dict]:
            if path != "sys/unseal":
                return call(api, method, path, body, token)
            shares = {WRONG: iter(FOREIGN), RIGHT: iter(server.shares)}
            for move in moments.get(len(calls), []):
                given = {"reset": True} if move == RESET else {"key": next(shares[move])}
                server.client().session.put(f"{server.url}/v1/sys/unseal", json=given)
            calls.append(body)
            return call(api, method, path, body, token)

        monkeypatch.setattr(vault_api.Api, "call", call_disturbed)
        return calls

    return start


@pytest.mark.parametrize("moments", [{}, BETWEEN_SHARES, WHOLE_ATTEMPT, MIXED_UP, TWICE, FASTER, EIGHT_TIMES])
def test_vault_is_opened_whatever_the_host_does_meanwhile(
    server: Vault, disturbed: Disturbed, run_module: Callable, moments: dict
) -> None:
    server.restart()
    disturbed(moments)
    result = run_module(vault_unseal.main, url=server.url, shares=server.shares, deadline=20)
    assert result.get("sealed") is False, result


def test_wrong_shares_are_reported_after_two_attempts(
    server: Vault, disturbed: Disturbed, run_module: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_api, "UNSEAL_TRIES", 5)
    server.restart()
    for moments, shares, words, tries in (
        ({}, FOREIGN, "do not open this Vault", 2),
        (ALWAYS, server.shares, "is still sealed", 5),
    ):
        calls = disturbed(moments)
        result = run_module(vault_unseal.main, url=server.url, shares=shares, deadline=20)
        assert result["failed"] and words in result["msg"]
        assert len([call for call in calls if call.get("reset")]) == tries + 1
        assert server.client().sys.read_seal_status()["progress"] == 0


@pytest.fixture
def restored(server: Vault, run_module: Callable, tmp_path: Path) -> Callable[[], hvac.Client]:
    """A function that brings a snapshot of the server's Vault back onto the emptied server."""
    server.restart()
    client = server.client(server.root_token)
    vault.submit_shares(client, server.shares)
    vault.wait_for(client, (vault.ACTIVE,), 20)
    source = tmp_path / "taken.snap"
    source.write_bytes(client.sys.take_raft_snapshot().content)
    server.reset()
    files = {"src": str(source), "state_directory": str(tmp_path / "state")}

    def restore() -> hvac.Client:
        result = run_module(
            vault_restore.main, url=server.url, secret_shares=3, secret_threshold=3, deadline=20, **files
        )
        assert result.get("changed") and not result["must_reset"], result
        return client

    return restore


@pytest.mark.parametrize("moments", [WHOLE_ATTEMPT, MIXED_UP])
def test_a_restore_opens_the_passing_vault_whatever_the_host_does_meanwhile(
    server: Vault, disturbed: Disturbed, restored: Callable[[], hvac.Client], moments: dict
) -> None:
    disturbed(moments)
    client = restored()
    disturbed({})
    vault.submit_shares(client, server.shares)
    vault.wait_for(client, (vault.ACTIVE,), 20)
    assert client.auth.token.lookup_self()["data"]["policies"] == ["root"]


def test_a_restore_ends_well_when_the_host_opens_the_restored_vault_at_once(
    server: Vault, restored: Callable[[], hvac.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, opened = vault.state_of, []

    def look_too_late(client: hvac.Client) -> str:
        # Read once: HashiCorp Vault is a standby for an instant before it is sealed, and a second answer would differ.
        state = look(client)
        if opened or state != vault.SEALED:
            return state
        opened.append(True)
        host = server.client()
        vault.submit_shares(host, server.shares)
        vault.wait_for(host, (vault.ACTIVE,), 20)
        return look(client)

    monkeypatch.setattr(vault, "state_of", look_too_late)
    client = restored()
    assert opened
    assert client.auth.token.lookup_self()["data"]["policies"] == ["root"]
