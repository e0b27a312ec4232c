"""The Vault plugins' decisions, without a Vault: custody after each way to be killed, files, tokens, the result."""

from __future__ import annotations

import base64
import json
import os
import stat
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.action import vault_init as action
from ansible_collections.openmates.server.plugins.module_utils import atomic
from ansible_collections.openmates.server.plugins.module_utils.vault import api, custody
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault.api import token_fault
from ansible_collections.openmates.server.plugins.module_utils.vault.config.settings import engine_fault
from ansible_collections.openmates.server.plugins.module_utils.vault.markers import Marker
from ansible_collections.openmates.server.plugins.modules import vault_init, vault_restore, vault_unseal

SHARES = ["c2hhcmUtb25l", "c2hhcmUtdHdv", "c2hhcmUtdGhyZWU="]
CUSTODY = {"unseal_threshold": 2, "unseal_shares": SHARES, "root_token": "s.root-canary"}


@pytest.fixture
def secrets() -> list:
    """A run's ansible-vault secrets."""
    return [("default", VaultSecret(b"a password"))]


# ---------------------------------------------------------------- custody


@pytest.mark.parametrize(
    ("state", "marker", "keys_id", "expected"),
    [
        ("uninitialized", None, None, "init"),
        ("uninitialized", "one", None, "init"),
        ("sealed", None, "one", "settled"),
        ("active", None, "one", "settled"),
        ("sealed", None, "", "settled"),
        ("sealed", "one", "one", "confirm"),
        ("active", "one", "one", "confirm"),
        ("sealed", "one", None, "reset"),
        ("sealed", "unreadable", None, "reset"),
    ],
)
def test_every_state_of_a_killed_run_is_repaired(state, marker, keys_id, expected):
    verdict = custody.verdict(
        state=state, marker=marker, keys_file="/k", keys_present=keys_id is not None, keys_init_id=keys_id
    )
    assert verdict == expected


@pytest.mark.parametrize(
    ("state", "marker", "keys_id", "remedy"),
    [
        ("uninitialized", None, "one", "move the keys file away"),
        ("uninitialized", "one", "one", "move the keys file away"),
        ("sealed", None, None, "Restore that file from"),
        ("active", None, None, "Restore that file from"),
        ("sealed", "one", "other", "Move that file away"),
        ("sealed", "unreadable", "one", "Move that file away"),
        ("active", "one", None, "Restore the keys file and"),
        ("uninitialized", "restore", "one", "vault_restore.yml again"),
        ("sealed", "restore", "one", "vault_restore.yml again"),
        ("standby", "one", None, "Restore the keys file and"),
    ],
)
def test_where_something_could_be_lost_it_stops_with_the_remedy(state, marker, keys_id, remedy):
    with pytest.raises(vault.VaultProblem, match=remedy):
        custody.verdict(
            state=state, marker=marker, keys_file="/k", keys_present=keys_id is not None, keys_init_id=keys_id
        )


@pytest.mark.parametrize(
    ("marked_before", "state", "resets"),
    [(True, "uninitialized", True), (True, "sealed", True), (True, "active", False), (False, "uninitialized", False)],
)
def test_a_refused_initialisation_is_reset_only_after_an_interrupted_one(
    tmp_path, monkeypatch, marked_before, state, resets
):
    marker = Marker(tmp_path / "marker")
    if marked_before:
        marker.write("an earlier run")

    def refuse(**_):
        raise vault.hvac.exceptions.InvalidRequest("refused")

    parameters = {"init_id": "one", "secret_shares": 1, "secret_threshold": 1, "pgp_keys": []}
    parameters["pad"] = base64.b64encode(bytes(custody.pad_length(1))).decode()
    client = SimpleNamespace(sys=SimpleNamespace(initialize=refuse))
    monkeypatch.setattr(vault, "state_of", lambda _: state)
    if resets:
        assert vault_init.initialise(SimpleNamespace(params=parameters), client, marker)["must_reset"]
    else:
        with pytest.raises(vault.VaultProblem, match="could not be initialised: refused"):
            vault_init.initialise(SimpleNamespace(params=parameters), client, marker)
    assert marker.read() == "one"


# ---------------------------------------------------------------- the keys file


def test_the_keys_file_is_encrypted_private_and_reads_back(tmp_path, secrets):
    keys = action.KeysFile(str(tmp_path / "new" / "keys.yml"), secrets)
    keys.prove_possible()
    assert list(keys.path.parent.iterdir()) == []
    keys.write(action.keys_text("prod1", "one", **CUSTODY))
    assert keys.read() == {"init_id": "one", **CUSTODY}
    content = keys.path.read_bytes()
    assert VaultLib.is_encrypted(content)
    assert not any(secret.encode() in content for secret in [*SHARES, CUSTODY["root_token"]])
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [path.name for path in keys.path.parent.iterdir()] == ["keys.yml"]


def test_an_existing_keys_file_is_never_overwritten(tmp_path, secrets):
    path = tmp_path / "keys.yml"
    path.symlink_to(tmp_path / "elsewhere")
    keys = action.KeysFile(str(path), secrets)
    assert keys.present()
    with pytest.raises(AnsibleActionFail, match="is not overwritten"):
        keys.write(action.keys_text("prod1", "one", **CUSTODY))
    assert path.is_symlink()
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.yml"]


def test_a_keys_file_that_does_not_read_back_never_gets_its_name(tmp_path, secrets, monkeypatch):
    keys = action.KeysFile(str(tmp_path / "keys.yml"), secrets)
    monkeypatch.setattr(keys, "_encrypt", lambda _: VaultLib().encrypt("other: 1", secrets[0][1]))
    with pytest.raises(AnsibleActionFail, match="does not read back"):
        keys.write(action.keys_text("prod1", "one", **CUSTODY))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_started_without_a_password_or_a_place_for_the_keys(tmp_path, secrets):
    with pytest.raises(AnsibleActionFail, match="ansible-vault password"):
        action.KeysFile(str(tmp_path / "keys.yml"), []).prove_possible()
    (tmp_path / "file").touch()
    with pytest.raises(AnsibleActionFail, match="Nothing was initialised"):
        action.KeysFile(str(tmp_path / "file" / "keys.yml"), secrets).prove_possible()
    with pytest.raises(AnsibleActionFail, match="absolute"):
        action.KeysFile("keys.yml", secrets)


@pytest.mark.parametrize("content", ["plain: text", "", "- a list", "root_token: ['"])
def test_an_unreadable_keys_file_is_one_clear_error(tmp_path, secrets, content):
    path = tmp_path / "keys.yml"
    path.write_bytes(VaultLib().encrypt(content, secrets[0][1]) if content != "plain: text" else content.encode())
    with pytest.raises(AnsibleActionFail, match="is not an ansible-vault encrypted keys file"):
        action.KeysFile(str(path), secrets).read()
    path.write_bytes(VaultLib().encrypt("a: 1", VaultSecret(b"another password")))
    with pytest.raises(AnsibleActionFail, match="cannot be decrypted"):
        action.KeysFile(str(path), secrets).read()


# ---------------------------------------------------------------- the action's result


@pytest.fixture
def run_action(tmp_path, secrets, monkeypatch):
    """A function that runs the action against the given answers of the host and returns result, calls, keys path."""

    def run(*answers):
        path = tmp_path / "keys.yml"
        task = SimpleNamespace(
            args={"url": "http://vault", "keys_file": str(path), "state_directory": "/m"},
            action="openmates.server.vault_init",
            check_mode=False,
            async_val=0,
            diff=False,
        )
        loader = SimpleNamespace(_vault=VaultLib(secrets))
        plugin = action.ActionModule(task, SimpleNamespace(), SimpleNamespace(), loader, None, None)
        calls = []
        remaining = list(answers)

        def execute(module_name, module_args, task_vars):
            calls.append({**module_args, "keys_present": path.exists()})
            answer = remaining.pop(0)
            if "custody" in answer:
                pad = base64.b64decode(module_args["pad"])
                hidden = custody.with_pad(json.dumps(answer["custody"]).encode(), pad)
                answer = {**answer, "custody": base64.b64encode(hidden).decode()}
            return answer

        monkeypatch.setattr(plugin, "_execute_module", execute)
        monkeypatch.setattr(ActionBase, "run", lambda *_: {})
        try:
            result = plugin.run(task_vars={"inventory_hostname": "prod1"})
        except AnsibleActionFail as error:
            result = error
        return result, calls, path

    return run


INITIALISED = {"changed": True, "initialized": True, "sealed": True, "must_reset": False}


def test_the_result_has_no_key_and_the_marker_goes_only_after_custody(run_action, secrets):
    result, calls, path = run_action({**INITIALISED, "custody": dict(CUSTODY), "junk": "s.root-canary"}, {})
    assert result == {**INITIALISED, "keys_file": str(path)}
    assert [(call["step"], call["keys_present"]) for call in calls] == [("begin", False), ("confirm", True)]
    kept = action.KeysFile(str(path), secrets).read()
    assert kept["init_id"] == calls[0]["init_id"] == calls[1]["init_id"]
    assert kept["unseal_shares"] == SHARES


def test_lost_keys_are_reported_and_the_marker_stays(run_action, monkeypatch):
    monkeypatch.setattr(action.KeysFile, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    result, calls, path = run_action({**INITIALISED, "custody": dict(CUSTODY)})
    assert "No space left" in str(result) and "run again" in str(result)
    assert len(calls) == 1 and not path.exists()
    assert not any(secret in str(result) for secret in [*SHARES, CUSTODY["root_token"]])


def test_a_failure_on_the_host_is_reported(run_action):
    result, calls, path = run_action({"failed": True, "msg": "no python", "module_stderr": "sh: not found"})
    assert str(result) == "no python sh: not found"
    assert len(calls) == 1 and not path.exists()


def test_the_pad_hides_and_is_never_too_short(run_action):
    data, pad = b"some keys", bytes(range(1, 20))
    assert custody.with_pad(custody.with_pad(data, pad), pad) == data
    assert custody.with_pad(data, pad) != data
    with pytest.raises(vault.VaultProblem, match="shorter"):
        custody.with_pad(data, b"short")
    keys = {"unseal_threshold": 255, "unseal_shares": ["x" * 48] * 255, "root_token": "y" * 200}
    assert len(json.dumps(keys)) < custody.pad_length(255)
    pads = [run_action({"failed": True, "msg": "x"})[1][0]["pad"] for _ in range(2)]
    assert pads[0] != pads[1] and len(base64.b64decode(pads[0])) == custody.pad_length(5)


# ---------------------------------------------------------------- unseal, tokens, engines, files


def test_shares_are_checked_before_any_is_handed_to_vault():
    assert vault_unseal.usable_shares([SHARES[0], SHARES[0], "00ff", SHARES[1]], 2) == [SHARES[0], "00ff"]
    with pytest.raises(vault.VaultProblem, match="needs 2 different"):
        vault_unseal.usable_shares([SHARES[0], SHARES[0]], 2)
    with pytest.raises(vault.VaultProblem, match="share 2 of 2") as error:
        vault_unseal.usable_shares([SHARES[0], "not a share!"], 2)
    assert "not a share!" not in str(error.value)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"orphan": True, "period": 3600, "policies": ["b", "a"], "meta": {"role_name": "api"}}, None),
        ({"orphan": True, "period": 3600, "policies": ["b", "a"], "meta": None}, "was not made by this server"),
        (None, "is not valid"),
        ({"orphan": False, "period": 3600, "policies": ["a", "b"]}, "is not an orphan"),
        ({"orphan": True, "policies": ["a", "b"]}, "has another period"),
        ({"orphan": True, "period": 60, "policies": ["a", "b"]}, "has another period"),
        ({"orphan": True, "period": 3600, "policies": ["a", "b", "default"]}, "has other policies"),
    ],
)
def test_a_token_is_kept_only_if_it_is_the_one_wanted(found, fault):
    told = token_fault(found, "api", ["a", "b"], 3600)
    assert told == fault or (fault and told.startswith(fault))


def test_an_engine_in_the_way_is_not_replaced():
    wanted = {"path": "kv", "type": "kv", "version": 2}
    assert engine_fault(wanted, None) == "missing"
    assert engine_fault(wanted, {"type": "kv", "options": {"version": "2"}}) is None
    with pytest.raises(vault.VaultProblem, match="kv version 1"):
        engine_fault(wanted, {"type": "kv", "options": {"version": "1"}})
    with pytest.raises(vault.VaultProblem, match="transit"):
        engine_fault(wanted, {"type": "transit", "options": None})


@pytest.mark.parametrize(
    ("text", "expected"), [("768h", 2764800), ("1h30m", 5400), ("32d", 2764800), ("60", 60), (60, 60), ("5s", 5)]
)
def test_durations(text, expected):
    assert vault.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "-1h", "1.5h", "h"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(vault.VaultProblem, match="duration"):
        vault.seconds(text)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "token"
    atomic.write_atomically(path, b"one", 0o400, os.getuid(), os.getgid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o400

    def full(*_):
        raise OSError(28, "No space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_atomically(path, b"two", 0o400)
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


# ---------------------------------------------------------------- a restore


@pytest.mark.parametrize(
    "answers",
    [
        [200, 503],  # OpenBao: active, then sealed
        [200, 429, 429, 503],  # HashiCorp Vault: a standby for an instant between
        [500, 429, 503],
    ],
)
def test_a_restored_vault_is_waited_for_until_it_is_sealed(answers, monkeypatch):
    left = iter(answers)
    monkeypatch.setattr(api.Api, "call", lambda *_: (next(left), {}))
    client = SimpleNamespace(
        url="http://vault",
        auth=SimpleNamespace(token=SimpleNamespace(lookup_self=lambda: {"data": {}})),
    )
    assert [vault_restore.replaced(client) for _ in answers] == [False] * (len(answers) - 1) + [True]
