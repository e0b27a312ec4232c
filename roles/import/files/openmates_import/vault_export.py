# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Vault holds for OpenMates, in lines of JSON: the keys of transit, the secrets of kv, and what proves them.

A key goes with all of its versions, and as it was: whether it may be exported is a mark in its backup, which is set
back. With each key goes a text that it encrypted here, once for each version that still encrypts, and the text's HMAC:
the new Vault has to find the same. Ciphertexts of the database are decrypted here, and the new Vault has to find the
same text; only its digest leaves this program.

Of a secret, the present version counts: OpenMates reads no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from openmates_backup import files
from openmates_backup.problem import Problem

from openmates_import.vault_copy import Copy, Refused

TRANSIT, KV = "transit", "kv"
#: Of Vault itself.
SYSTEM = {"cubbyhole/", "identity/", "sys/"}
#: What the installer's own set-up keeps in kv.
OWN = "system_flags/"


class Sample(t.NamedTuple):
    """A ciphertext of the database."""

    key: str
    ciphertext: str


def context_of(key: str) -> str:
    """What OpenMates derives the key of a user's data from."""
    return base64.b64encode(key.encode()).decode()


def export(copy: Copy, path: Path, samples: Sequence[Sample], references: Sequence[str]) -> dict[str, t.Any]:
    """Write everything to a file, and describe it. Raises Problem.

    `references`: the names of keys that rows of the database refer to.
    """
    mounts = copy.data("sys/mounts")
    others = sorted(set(mounts) - SYSTEM - {f"{TRANSIT}/", f"{KV}/"})
    version = (mounts.get(f"{KV}/", {}).get("options") or {}).get("version")
    if f"{KV}/" in mounts and version != "2":
        raise Problem(f"The old Vault's {KV}/ is not of version 2, which the installer makes.")
    names = copy.names(f"{TRANSIT}/keys")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kinds = {"key": 0, "secret": 0, "sample": 0}
    with path.open("w") as file:
        for kind, line in _lines(copy, names, samples):
            kinds[kind] += 1
            file.write(json.dumps({kind: line}) + "\n")
    path.chmod(0o600)
    return {
        "keys": kinds["key"],
        "secrets": kinds["secret"],
        "samples": kinds["sample"],
        "unreadable": len(samples) - kinds["sample"],
        "without_key": len(set(references) - set(names)),
        "other_engines": others,
        **files.described(path),
    }


def _lines(copy: Copy, names: Sequence[str], samples: Sequence[Sample]) -> Iterator[tuple[str, dict[str, t.Any]]]:
    for name in names:
        yield "key", _key(copy, name)
    for path in paths(copy):
        if found := copy.data(f"{KV}/data/{quote(path)}").get("data"):
            yield "secret", {"path": path, "data": found}
    for sample in samples:
        if found := _decrypted(copy, sample):
            yield "sample", found


def paths(copy: Copy, folder: str = "") -> Iterator[str]:
    """The paths of all secrets."""
    for name in copy.names(f"{KV}/metadata/{quote(folder)}"):
        path = f"{folder}{name}"
        if path.startswith(OWN):
            continue
        if name.endswith("/"):
            yield from paths(copy, path)
        else:
            yield path


def _key(copy: Copy, name: str) -> dict[str, t.Any]:
    place = f"{TRANSIT}/keys/{quote(name)}"
    about = copy.data(place)
    marks = {mark: bool(about.get(mark)) for mark in ("exportable", "allow_plaintext_backup")}
    copy.call("POST", f"{place}/config", dict.fromkeys(marks, True))
    backup = copy.data(f"{TRANSIT}/backup/{quote(name)}").get("backup")
    if not backup:
        raise Problem(f"The copy of the old Vault gives no backup of the key {name}.")
    return {"name": name, "backup": remarked(backup, marks), "proofs": list(_proofs(copy, name, about))}


def remarked(backup: str, marks: Mapping[str, bool]) -> str:
    """A key's backup with these marks. Raises Problem."""
    try:
        found = json.loads(base64.b64decode(backup))
        found["policy"].update(marks)
    except (ValueError, KeyError, AttributeError):
        raise Problem("The copy of the old Vault gives a key's backup in an unknown form.") from None
    return base64.b64encode(json.dumps(found).encode()).decode()


def _proofs(copy: Copy, name: str, about: Mapping[str, t.Any]) -> Iterator[dict[str, t.Any]]:
    text = base64.b64encode(secrets.token_bytes(32)).decode()
    found = copy.call("POST", f"{TRANSIT}/hmac/{quote(name)}", {"input": text})
    yield {"hmac": found["data"]["hmac"], "text": text}
    if not about.get("supports_encryption"):
        return
    context = {"context": context_of(name)} if about.get("derived") else {}
    oldest = max(1, about.get("min_encryption_version") or 0, about.get("min_decryption_version") or 0)
    for version in range(oldest, about["latest_version"] + 1):
        body = {"plaintext": text, "key_version": version, **context}
        found = copy.call("POST", f"{TRANSIT}/encrypt/{quote(name)}", body)
        yield {"ciphertext": found["data"]["ciphertext"], "text": text, **context}


def _decrypted(copy: Copy, sample: Sample) -> dict[str, t.Any]:
    """A sample with the digest of its text; empty if it cannot be decrypted here either."""
    body = {"ciphertext": sample.ciphertext, "context": context_of(sample.key)}
    try:
        found = copy.call("POST", f"{TRANSIT}/decrypt/{quote(sample.key)}", body)
    except Refused:
        return {}
    text = (found.get("data") or {}).get("plaintext")
    if text is None:
        return {}
    return {"key": sample.key, **body, "sha256": hashlib.sha256(text.encode()).hexdigest()}
