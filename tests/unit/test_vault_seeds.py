"""How an inventory's seeds are read, and what becomes of each in Vault."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import hvac
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.openmates.server.plugins.filter.duration_seconds import duration_seconds
from ansible_collections.openmates.server.plugins.module_utils.vault.config.seeds import Seeds
from ansible_collections.openmates.server.plugins.module_utils.vault.connection import VaultProblem
from ansible_collections.openmates.server.plugins.module_utils.vault.seeds import seeds_of
from ansible_collections.openmates.server.plugins.modules import vault_secret

SEEDS = {
    "providers/b": {"api_key": "x"},
    "providers/a": {"ensure": {"api_key": "y"}},
    "providers/c": {"enforce": {"api_key": "z"}},
    "system/d": {"generate": {"key": 40, "salt": 16}},
    "system/e": {"ensure": "a field that happens to have that name"},
}


def test_seeds_are_read_by_kind_and_in_the_order_of_their_paths():
    assert list(seeds_of(json.dumps(SEEDS)).values()) == [
        ("providers/a", "ensure", {"api_key": "y"}),
        ("providers/b", "ensure", {"api_key": "x"}),
        ("providers/c", "enforce", {"api_key": "z"}),
        ("system/d", "generate", {"key": 40, "salt": 16}),
        ("system/e", "ensure", {"ensure": "a field that happens to have that name"}),
    ]
    assert seeds_of(None) == seeds_of("{}") == {}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("canary", "not a table"),
        ({}, "not a table"),
        ({"enforce": {}}, "not a table"),
        ({"generate": {"key": 8}}, "16 to 512"),
        ({"generate": {"key": "canary"}}, "16 to 512"),
        ({"generate": {"key": True}}, "16 to 512"),
        ({"generate": {"key": 40}, "api_key": "canary"}, "mixes generate"),
    ],
)
def test_an_entry_that_is_none_is_named_by_its_path_only(entry, problem):
    with pytest.raises(VaultProblem, match=problem) as error:
        seeds_of(json.dumps({"providers/x": entry}))
    assert "providers/x" in str(error.value) and "canary" not in str(error.value)


def test_durations_are_vaults_and_nonsense_is_refused():
    assert duration_seconds("1h30m") == 5400
    with pytest.raises(AnsibleFilterError, match="not a duration"):
        duration_seconds("soon")


# ---------------------------------------------------------------- what becomes of them


class Kv:
    """A kv engine of versions by path; a version of None was deleted."""

    def __init__(self, held: dict[str, list[dict | None]]) -> None:
        self.held = held
        self.written: dict[str, tuple[dict, int]] = {}

    def read_secret_metadata(self, path: str, mount_point: str) -> dict:
        if path not in self.held:
            raise hvac.exceptions.InvalidPath
        versions = {str(n): {"destroyed": False} for n, _ in enumerate(self.held[path], start=1)}
        return {"data": {"current_version": len(versions), "versions": versions}}

    def read_secret_version(self, path: str, mount_point: str, raise_on_deleted_version: bool) -> dict:
        if not self.held.get(path) or self.held[path][-1] is None:
            raise hvac.exceptions.InvalidPath
        return {"data": {"data": self.held[path][-1]}}

    def create_or_update_secret(self, path: str, secret: dict, cas: int, mount_point: str) -> dict:
        if cas != len(self.held.get(path, [])):
            raise hvac.exceptions.InvalidRequest("check-and-set parameter did not match the current version")
        self.held.setdefault(path, []).append(secret)
        self.written[path] = (secret, cas)
        return {"data": {"version": cas + 1}}


def reconciled(kv: Kv, seeds: dict, check: bool = False) -> list[str]:
    module = SimpleNamespace(
        params={"seeds": json.dumps(seeds), "seeds_engine": "kv", "deadline": 1}, check_mode=check, no_log_values=set()
    )
    client = SimpleNamespace(secrets=SimpleNamespace(kv=SimpleNamespace(v2=kv)))
    part = Seeds(module, client)
    part.run()
    values = {str(value) for secret, _ in kv.written.values() for value in secret.values()}
    assert {value for value in values if len(value) > 3} <= module.no_log_values
    assert not {value for value in ("by hand", "declared") if any(value in text for text in part.differing)}
    kv.differing = part.differing
    return part.changes


KINDS = {
    "providers/ensured": {"ensure": {"api_key": "declared"}},
    "providers/enforced": {"enforce": {"api_key": "declared"}},
    "system/generated": {"generate": {"key": 40}},
}
BY_HAND = {"api_key": "by hand", "more": "stays"}


@pytest.mark.parametrize("check", [True, False])
def test_a_path_that_never_held_anything_is_written_whatever_the_kind(check: bool) -> None:
    kv = Kv({})
    assert reconciled(kv, KINDS, check) == [
        "seed kv/providers/enforced: written",
        "seed kv/providers/ensured: written",
        "seed kv/system/generated: generated",
    ]
    if check:
        assert kv.written == {}
        return
    assert {path: cas for path, (_, cas) in kv.written.items()} == dict.fromkeys(KINDS, 0)
    assert kv.held["providers/ensured"] == kv.held["providers/enforced"] == [{"api_key": "declared"}]
    assert len(kv.held["system/generated"][0]["key"]) == 40
    kv.written.clear()
    assert (reconciled(kv, KINDS), kv.written, kv.differing) == ([], {}, [])


def test_only_an_enforced_one_changes_what_is_there_and_keeps_other_fields() -> None:
    kv = Kv({path: [{}, dict(BY_HAND)] for path in KINDS})
    assert reconciled(kv, KINDS) == ["seed kv/providers/enforced: corrected"]
    assert kv.differing == ["api_key of kv/providers/ensured"], "what has no effect is reported"
    assert kv.written == {"providers/enforced": ({"api_key": "declared", "more": "stays"}, 2)}
    assert reconciled(kv, KINDS) == []


def test_only_an_enforced_one_is_written_again_after_it_was_deleted() -> None:
    kv = Kv({path: [dict(BY_HAND), None] for path in KINDS})
    assert reconciled(kv, KINDS) == ["seed kv/providers/enforced: corrected"]
    assert kv.differing == [], "it was deleted on purpose"
    assert kv.written == {"providers/enforced": ({"api_key": "declared"}, 2)}


def test_a_write_that_comes_second_is_refused() -> None:
    kv = Kv({})
    kv.read_secret_metadata = lambda **_: (_ for _ in ()).throw(hvac.exceptions.InvalidPath)
    kv.held["providers/ensured"] = [dict(BY_HAND)]
    with pytest.raises(hvac.exceptions.InvalidRequest, match="check-and-set"):
        reconciled(kv, {"providers/ensured": KINDS["providers/ensured"]})
    assert kv.held["providers/ensured"] == [BY_HAND]


# ---------------------------------------------------------------- rotation


@pytest.fixture
def rotate(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict]) -> Callable[..., dict]:
    """A function that writes a new version of a secret."""

    def run(kv: Kv, path: str, **arguments: object) -> dict:
        token = SimpleNamespace(revoke_self=lambda: None)
        client = SimpleNamespace(secrets=SimpleNamespace(kv=SimpleNamespace(v2=kv)), auth=SimpleNamespace(token=token))
        monkeypatch.setattr(vault_secret.vault, "wait_for", lambda *_: "active")
        monkeypatch.setattr(vault_secret.tokens, "managing_client", lambda _: client)
        given = {"url": "http://vault", "step": "write", "seeds": json.dumps(KINDS)}
        return run_module(vault_secret.main, path=path, **given, **arguments)

    return run


def test_a_rotation_takes_new_values_or_generates_them_and_refuses_what_the_next_run_would_undo(rotate) -> None:
    kv = Kv({path: [dict(BY_HAND)] for path in KINDS} | {"system/generated": [{"key": "old", "more": "stays"}]})
    assert rotate(kv, "providers/ensured", fields={"api_key": "new value"})["version"] == 2
    assert kv.held["providers/ensured"][-1] == {"api_key": "new value", "more": "stays"}

    result = rotate(kv, "system/generated")
    made = kv.held["system/generated"][-1]
    assert len(made["key"]) == 40 and made["more"] == "stays" and made["key"] not in json.dumps(result)

    refused = rotate(kv, "providers/enforced", fields={"api_key": "new value"})
    assert refused["failed"] and "enforced by the inventory" in refused["msg"]
    assert "No field" in rotate(kv, "providers/ensured")["msg"]
    assert len(kv.held["providers/enforced"]) == 1 and len(kv.held["providers/ensured"]) == 2


def test_a_short_value_of_a_seed_is_not_masked_wherever_it_occurs(rotate, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a value by itself, Ansible would mask each letter of the messages that is like it."""
    monkeypatch.setitem(KINDS, "providers/short", {"enforce": {"enabled": "e", "count": 1}})
    refused = rotate(Kv({"providers/short": [{"enabled": "f"}]}), "providers/short")
    assert refused["msg"].startswith("providers/short is enforced by the inventory")
    assert json.dumps(KINDS) not in json.dumps(refused)
