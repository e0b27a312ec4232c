"""What is known of the keys on the controller: every state, in one sentence without a share."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils.vault import keys_proof
from ansible_collections.openmates.server.plugins.module_utils.vault.api import VaultProblem
from ansible_collections.openmates.server.plugins.plugin_utils.vault.keys_state import Held, held_in, state_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.problems import problems_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.report import report_of

SHARES = [base64.b64encode(secrets.token_bytes(33)).decode() for _ in range(5)]
OTHERS = [base64.b64encode(secrets.token_bytes(33)).decode() for _ in range(5)]


@pytest.fixture
def seen(tmp_path: Path) -> dict:
    """The host's part, where all shares were proven."""
    record = keys_proof.record(tmp_path, "this", SHARES, "site.yml", proven=True)
    return {"record": record, "state": "open", "cluster": "this", "threshold": 3}


@pytest.mark.parametrize(
    ("held", "more", "state", "words", "due"),
    [
        (Held("k", SHARES), {}, "ok", "(5 shares of k, 3 are needed, proven on 20", False),
        (Held("k", SHARES[:3]), {"state": "sealed", "cluster": ""}, "ok", "(3 shares", False),
        (Held("k", [*SHARES[:3], OTHERS[0]]), {}, "ok", "1 more are not proven", True),
        (Held("k", OTHERS), {}, "unproven", "are not those that were proven", True),
        (Held("k", SHARES), {"cluster": "another"}, "unproven", "another Vault", True),
        (Held("k", SHARES), {"record": {}}, "unproven", "no run has proven", True),
        (Held("k", SHARES), {"record": {}, "state": "sealed", "cluster": ""}, "unproven", "Vault is sealed", False),
        (Held("k", SHARES), {"state": "unreachable"}, "unproven", "there is no Vault", False),
        (Held("k", SHARES[:2]), {}, "problem", "has 2 different shares, and this Vault needs 3", False),
        (Held("k", [SHARES[0], "x"]), {}, "problem", "share 2 of 2 has not the form", False),
        (Held("k", fault="cannot be decrypted"), {}, "problem", "k cannot be decrypted", False),
        (Held("k", missing=True), {}, "unproven", "no keys file at k. 5 shares were proven", False),
        (held_in("k", {"pgp_shares": ["a"] * 5, "unseal_threshold": 3}), {}, "unproven", "encrypted for their", False),
        (held_in("k", {"a": 1}), {}, "problem", "is not a keys file", False),
    ],
)
def test_each_state_has_its_sentence(seen: dict, held: Held, more: dict, state: str, words: str, due: bool) -> None:
    found = state_of(held, seen | more)
    assert (found.state, found.due) == (state, due)
    assert words in found.reason
    result = found.result()
    assert result["sentence"].startswith("Keys on this machine: ")
    assert bool(result["problem"]) == (state == "problem") and result["ok"] == (state == "ok")
    assert not any(share in json.dumps(result) for share in SHARES + OTHERS)


def test_refused_shares_are_a_problem_until_they_are_proven(tmp_path: Path, seen: dict) -> None:
    seen["record"] = keys_proof.record(tmp_path, "this", OTHERS, "site.yml", proven=False)
    assert state_of(Held("k", OTHERS), seen).state == "problem"
    assert state_of(Held("k", SHARES), seen).state == "ok"
    seen["record"] = keys_proof.record(tmp_path, "this", OTHERS, "site.yml", proven=True)
    assert state_of(Held("k", OTHERS), seen).state == "ok"


def test_the_record_has_no_share_and_is_for_root(tmp_path: Path, seen: dict) -> None:
    file = tmp_path / keys_proof.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(share in file.read_text() for share in SHARES)


def test_each_share_is_in_a_group() -> None:
    found = list(keys_proof.groups(SHARES, 3))
    assert [len(set(group)) for group in found] == [3, 3]
    assert {share for group in found for share in group} == set(SHARES)


def test_verify_reports_the_sentence_and_a_problem() -> None:
    report = {"probe": {}, "keys": {"sentence": "Keys on this machine: PROBLEM: broken", "problem": "broken"}}
    assert "Keys on this machine: PROBLEM: broken" in report_of(report)
    assert "Keys on this machine: broken" in problems_of(report)
    assert not [line for line in problems_of({**report, "keys": {}}) if "Keys" in line]


class Mark:
    """The marker of root tokens, in memory."""

    def __init__(self, content: str | None = None) -> None:
        self.content = content

    def read(self) -> str | None:
        return self.content

    def write(self, content: str) -> None:
        self.content = content

    def drop(self) -> None:
        self.content = None


def answers(revoked: int = 204) -> Callable[..., tuple[int, dict]]:
    """A Vault that takes any share and cannot always revoke."""
    otp = "o" * 8
    hidden = base64.b64encode(bytes(a ^ b for a, b in zip(b"s.root!!", otp.encode(), strict=True))).decode()

    def call(method: str, path: str, body: object = None, token: str = "") -> tuple[int, dict]:
        if path == keys_proof.REVOKE:
            return revoked, {}
        if path == keys_proof.UPDATE:
            return 200, {"complete": True, "encoded_token": hidden}
        return 200, {"started": False, "nonce": "" if method == "GET" else "n", "otp": otp, "required": 3}

    return call


@pytest.mark.parametrize(("before", "revoked", "after"), [(None, 204, None), ("root", 204, "root"), (None, 500, "n")])
def test_the_marker_stays_while_a_root_token_may_exist(before: str | None, revoked: int, after: str | None) -> None:
    mark, api = Mark(before), type("Fake", (), {"call": staticmethod(answers(revoked))})()

    def unmask(data: bytes, pad: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(data, pad, strict=False))

    if revoked == 204:
        keys_proof.prove(api, SHARES, mark, unmask)
    else:
        with pytest.raises(VaultProblem, match="was not revoked"):
            keys_proof.prove(api, SHARES, mark, unmask)
    assert mark.content == after


def test_shares_from_before_a_rotation_are_no_longer_proven(tmp_path: Path, seen: dict) -> None:
    seen["record"] = keys_proof.record(tmp_path, "this", OTHERS, "keys_check.yml", proven=True)
    assert state_of(Held("k", OTHERS), seen).state == "ok"
    assert state_of(Held("k", SHARES), seen).state == "unproven"


def test_a_wrong_copy_does_not_spoil_what_is_known_of_the_right_one(tmp_path: Path, seen: dict) -> None:
    copy = [*SHARES[:4], OTHERS[0]]
    seen["record"] = keys_proof.record(tmp_path, "this", copy, "keys_check.yml", proven=False)
    assert state_of(Held("copy", copy), seen).state == "problem"
    assert state_of(Held("k", SHARES), seen).state == "ok"


def test_a_refusal_after_a_first_proof_leaves_no_marker() -> None:
    takes, refused = answers(), SHARES[3]

    def call(method: str, path: str, body: dict | None = None, token: str = "") -> tuple[int, dict]:
        return (400, {}) if (body or {}).get("key") == refused else takes(method, path, body, token)

    mark, api = Mark(), type("Fake", (), {"call": staticmethod(call)})()
    with pytest.raises(keys_proof.NotOurs):
        keys_proof.prove(api, SHARES, mark, lambda data, pad: bytes(a ^ b for a, b in zip(data, pad, strict=False)))
    assert mark.content is None
