# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the keys that the controller has open a Vault: what is known of them, as one sentence."""

from __future__ import annotations

import base64
import binascii
import re
import typing as t
from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.module_utils.vault.keys_proof import digest

OK, UNPROVEN, PROBLEM = "ok", "unproven", "problem"
_SIZE = range(32, 66)  # bytes of a share: the key and, if it was split, one more


class Held(t.NamedTuple):
    """The keys that the controller has, or why it has none."""

    path: str
    shares: list[str] = []  # noqa: RUF012 - never changed
    encrypted: int = 0  # shares that are encrypted for their holders
    threshold: int = 0
    missing: bool = False
    fault: str = ""  # why the file cannot be used


def held_in(path: str, content: Mapping[str, t.Any]) -> Held:
    """The keys in the content of a keys file."""
    shares = [str(share) for share in content.get("unseal_shares") or []]
    encrypted = len(content.get("pgp_shares") or [])
    threshold = content.get("unseal_threshold")
    if not shares and not encrypted:
        return Held(path, fault="is not a keys file: it has neither unseal_shares nor pgp_shares")
    return Held(path, shares, encrypted, threshold if isinstance(threshold, int) else 0)


def malformed(shares: list[str]) -> str:
    """Which share has not the form of one, without its content; empty if all have it."""
    for position, share in enumerate(shares, start=1):
        try:
            is_hex = re.fullmatch(r"[0-9a-fA-F]+", share)
            raw = bytes.fromhex(share) if is_hex else base64.b64decode(share, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) not in _SIZE:
            return f"share {position} of {len(shares)} has not the form of an unseal share"
    return ""


class State(t.NamedTuple):
    """`due`: there are shares that could be proven now, and are not."""

    state: str
    reason: str
    due: bool = False

    def result(self) -> dict[str, t.Any]:
        """As the module vault_keys documents it."""
        label = {OK: "ok", UNPROVEN: "NOT PROVEN:", PROBLEM: "PROBLEM:"}[self.state]
        return {
            "ok": self.state == OK,
            "state": self.state,
            "problem": self.reason if self.state == PROBLEM else "",
            "sentence": f"Keys on this machine: {label} {self.reason}",
            "reason": self.reason,
            "due": self.due,
        }


def state_of(held: Held, seen: Mapping[str, t.Any]) -> State:
    """What is known of the keys; `seen` is the host's part: record, state, cluster, threshold and unknown."""
    record = seen.get("record") or {}
    shares = list(dict.fromkeys(held.shares))
    if seen.get("unknown"):
        return State(UNPROVEN, seen["unknown"])
    if held.missing:
        return State(UNPROVEN, f"there is no keys file at {held.path}{_others(record)}")
    if held.fault:
        return State(PROBLEM, f"{held.path} {held.fault}")
    if held.encrypted and not shares:
        return State(
            UNPROVEN,
            f"{held.path} has {held.encrypted} shares that are encrypted for their holders, and {held.threshold}"
            f" holders have to decrypt theirs for a proof (vault_given_shares){_others(record)}",
        )
    if fault := malformed(held.shares):
        return State(PROBLEM, f"{held.path}: {fault}. Restore the file from another copy")
    needed = int(seen.get("threshold") or held.threshold or 1)
    if len(shares) < needed:
        return State(PROBLEM, f"{held.path} has {len(shares)} different shares, and this Vault needs {needed}")
    if seen.get("state") in ("unreachable", "uninitialized"):
        return State(UNPROVEN, f"there is no Vault to compare them with ({seen['state']})")
    return _compared(held, shares, needed, seen, record)


def _compared(held: Held, shares: list[str], needed: int, seen: Mapping, record: Mapping) -> State:
    can_prove = seen.get("state") == "open"
    closed = "" if can_prove else ". Vault is sealed: unseal it, and check again"
    if not record:
        return State(UNPROVEN, f"no run has proven the shares of {held.path}{closed}", can_prove)
    if seen.get("cluster") and record.get("cluster") != seen["cluster"]:
        return State(UNPROVEN, f"the shares were proven for another Vault than this one{closed}", can_prove)
    key = record["key"]
    digests = [digest(share, key) for share in shares]
    if set(digests) == set(record.get("refused") or []):
        return State(
            PROBLEM,
            f"the shares of {held.path} do not open this Vault: they belong to another one, or at least one is damaged."
            " Restore the right keys file from its copy; keys_check.yml checks it",
        )
    proven = [found for found in digests if found in record.get("proven", [])]
    when = f"proven on {str(record.get('at'))[:10]} by {record.get('by')}"
    if len(proven) >= needed:
        rest = len(shares) - len(proven)
        when += f"; {rest} more are not proven" if rest else ""
        return State(
            OK, f"({len(proven)} shares of {held.path}, {needed} are needed, {when})", bool(rest) and can_prove
        )
    return State(UNPROVEN, f"the shares of {held.path} are not those that were {when}{closed}", can_prove)


def _others(record: Mapping[str, t.Any]) -> str:
    """What is known of shares that this machine does not have."""
    proven = record.get("proven") or []
    return f". {len(proven)} shares were proven on {str(record.get('at'))[:10]} by {record.get('by')}" if proven else ""
