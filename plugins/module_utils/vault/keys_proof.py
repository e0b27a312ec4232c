# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove on the host that unseal shares are those of its open Vault, and keep the record of what was proven.

Vault compares shares only while it unseals, rotates its keys or makes a root token. The last is the one of these that
works on both engines without another endpoint for every container: a root token is made, revokes itself at once, and
until then the marker of root tokens lets the next run of site.yml revoke it. Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils import keyed_digest
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
from ansible_collections.openmates.server.plugins.module_utils.vault.api import Api, VaultProblem, VaultUnreachable

FILE = "vault-keys.json"
ATTEMPT, UPDATE, REVOKE = "sys/generate-root/attempt", "sys/generate-root/update", "auth/token/revoke-self"
_REFUSED = 400


class NotOurs(VaultProblem):
    """These shares are not those of this Vault."""


class Mark(t.Protocol):
    """The marker of root tokens (module_utils/vault/markers.py)."""

    def read(self) -> str | None: ...
    def write(self, init_id: str) -> None: ...
    def drop(self) -> None: ...


class Identity(t.NamedTuple):
    """What Vault reports without a token; empty and 0 where there is no answer."""

    state: str
    cluster: str
    threshold: int


def identify(api: Api) -> Identity:
    """Return which Vault answers there, and whether it is open."""
    try:
        status, found = api.call("GET", "sys/seal-status")
    except VaultUnreachable:
        return Identity("unreachable", "", 0)
    if status >= _REFUSED or not found.get("initialized"):
        return Identity("uninitialized", "", 0)
    sealed = found.get("sealed", True)
    return Identity("sealed" if sealed else "open", str(found.get("cluster_id") or ""), int(found.get("t") or 0))


def groups(shares: list[str], size: int) -> Iterator[list[str]]:
    """Yield the shares in groups of `size`, each at least once; the last group is filled up with earlier ones."""
    for start in range(0, len(shares), size):
        group = shares[start : start + size]
        yield group + [share for share in shares if share not in group][: size - len(group)]


def prove(api: Api, shares: list[str], marker: Mark, unmask: Callable[[bytes, bytes], bytes]) -> None:
    """Prove that every one of these distinct shares is this Vault's. Leaves no token and no operation.

    Raises NotOurs if at least one is not, VaultProblem if that cannot be found out.
    """
    started = _called(api, "GET", ATTEMPT)
    before = marker.read()
    if started.get("started") and started.get("nonce") != before:
        raise VaultProblem(
            "Another generation of a root token is under way in Vault, and was not touched. Finish it, or cancel it"
            " with `operator generate-root -cancel` in Vault's container, and run this again"
        )
    if started.get("started"):  # of a check that was killed
        _called(api, "DELETE", ATTEMPT)
    required = int(started.get("required") or 0)
    if not required or len(shares) < required:
        raise VaultProblem(f"Vault needs {required} different shares, and there are {len(shares)}")
    try:
        for group in groups(shares, required):
            _prove_group(api, group, marker, unmask)
    except NotOurs:
        _settle(marker, before)
        raise
    _settle(marker, before)


def _settle(marker: Mark, before: str | None) -> None:
    """There is no root token of this check; those of others are still to be revoked."""
    if before is None:
        marker.drop()
    else:
        marker.write(before)


def _prove_group(api: Api, group: list[str], marker: Mark, unmask: Callable[[bytes, bytes], bytes]) -> None:
    attempt = _called(api, "PUT", ATTEMPT, {})
    marker.write(attempt["nonce"])  # before any share: a killed check is recognised, and its token revoked by site.yml
    answer: Mapping[str, t.Any] = {}
    try:
        for share in group:
            status, answer = api.call("PUT", UPDATE, {"key": share, "nonce": attempt["nonce"]})
            if status >= _REFUSED:
                break
        if answer.get("complete"):
            _revoke(api, answer, attempt["otp"], unmask)
            return
    except BaseException:
        with contextlib.suppress(VaultProblem):
            _cancel(api, attempt["nonce"])
        raise
    _cancel(api, attempt["nonce"])
    raise NotOurs("They belong to another Vault, or at least one is damaged")


def _revoke(api: Api, answer: Mapping[str, t.Any], otp: str, unmask: Callable[[bytes, bytes], bytes]) -> None:
    encoded = answer["encoded_token"]
    token = unmask(base64.b64decode(encoded + "=" * (-len(encoded) % 4)), otp.encode()).decode()
    status, _ = api.call("PUT", REVOKE, {}, token)
    if status >= _REFUSED:
        raise VaultProblem(
            f"The shares are this Vault's, but the root token that proved it was not revoked (status {status}). Run"
            " site.yml, which revokes it"
        )


def _cancel(api: Api, nonce: str) -> None:
    if _called(api, "GET", ATTEMPT).get("nonce") == nonce:
        _called(api, "DELETE", ATTEMPT, {"nonce": nonce})


def _called(api: Api, method: str, path: str, body: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
    status, answer = api.call(method, path, body)
    if status >= _REFUSED:
        raise VaultProblem(f"Vault answers {method} {path} with status {status}")
    return answer


def read_record(directory: Path) -> dict[str, t.Any]:
    """Return the record; empty if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((directory / FILE).read_text("utf-8"))
        if isinstance(found, dict) and isinstance(found.get("key"), str):
            return found
    return {}


def record(directory: Path, cluster: str, shares: list[str], by: str, proven: bool) -> dict[str, t.Any]:
    """Record that these shares were proven or refused, by digests with a key of their own, and return the record.

    Shares that were proven before stay proven for the same Vault if some of them were proven now too: after a rotation
    none of them is. Of those that were refused, only the last are known.
    """
    former = read_record(directory)
    if former.get("cluster") != cluster:
        former = {}
    key = former.get("key") or secrets.token_hex(keyed_digest.KEY_BYTES)
    digests = [digest(share, key) for share in shares]
    held, refused = list(former.get("proven") or []), list(former.get("refused") or [])
    if proven:
        held = [*held, *digests] if set(held) & set(digests) else digests
        refused = [] if set(refused) == set(digests) else refused
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = {
        "cluster": cluster,
        "key": key,
        "proven": list(dict.fromkeys(held)),
        "refused": refused if proven else digests,
        "at": now if proven else former.get("at", ""),
        "by": by if proven else former.get("by", ""),
    }
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(directory / FILE, (json.dumps(found, indent=2) + "\n").encode(), 0o600)
    return found


def digest(share: str, key: str) -> str:
    return keyed_digest.of_text(share, bytes.fromhex(key))
