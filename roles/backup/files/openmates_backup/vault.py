# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault: a snapshot of its raft storage, and a canary that only this Vault's keys can decrypt."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import secrets
import shutil
import tarfile
import typing as t
import zlib
from pathlib import Path

from openmates_backup import files, state
from openmates_backup.problem import NotReady, Problem

MOUNT, KEY = "transit", "openmates-canary"
SECONDS = 120
ENGINES = b"logical/"  # where Vault's storage has what the secrets engines hold
NUMBER, BYTES = 0, 2  # kinds of fields in protocol buffers
AGAIN = "`site.yml --tags vault` writes the login and its permissions again."


class Vault:
    """Vault's API with the login of the backup. No proxy takes part."""

    def __init__(self, address: str, login: dict[str, str]) -> None:
        """`address`: host:port. Raises Problem, and NotReady if it is sealed or does not answer."""
        self.address, self.token = address, ""
        health = self.call("GET", "sys/health?sealedcode=200&uninitcode=200&standbyok=true")
        if not health.get("initialized") or health.get("sealed"):
            raise NotReady(
                "Vault is sealed, so it cannot be backed up. `sudo journalctl -u openmates-vault-unseal` shows why;"
                " with openmates_vault_unseal: operator, unseal.yml unseals it."
            )
        self.health = health
        self.token = self.call("PUT", "auth/approle/login", login)["auth"]["client_token"]

    def request(self, method: str, path: str, body: dict | None = None) -> tuple[http.client.HTTPConnection, t.Any]:
        """The connection and the answer, which is still to be read. Raises Problem."""
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        headers = {"X-Vault-Token": self.token} if self.token else {}
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NotReady(f"Vault does not answer at {self.address}: {error}.") from None
        if answer.status >= 400:
            connection.close()
            raise Problem(f"Vault refuses {method} {path.partition('?')[0]} (status {answer.status}). {AGAIN}")
        return connection, answer

    def call(self, method: str, path: str, body: dict | None = None) -> dict[str, t.Any]:
        """Raises Problem."""
        connection, answer = self.request(method, path, body)
        try:
            return json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Problem(f"Vault's answer to {method} {path.partition('?')[0]} cannot be read: {error}.") from None
        finally:
            connection.close()

    def canary(self) -> dict[str, str]:
        """A random text, encrypted: the key is made at the first time, so it has to be called before the snapshot."""
        text = secrets.token_bytes(32)
        answer = self.call("PUT", f"{MOUNT}/encrypt/{KEY}", {"plaintext": base64.b64encode(text).decode()})
        ciphertext = answer["data"]["ciphertext"]
        return {"mount": MOUNT, "key": KEY, "ciphertext": ciphertext, "sha256": hashlib.sha256(text).hexdigest()}

    def back_up(self, path: Path) -> dict[str, t.Any]:
        """Take a snapshot. Raises Problem."""
        canary, begun = self.canary(), state.now()
        path.parent.mkdir(parents=True)
        connection, answer = self.request("GET", "sys/storage/raft/snapshot")
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(answer, file)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise Problem(f"Vault's snapshot broke off: {error}.") from None
        finally:
            connection.close()
        meta = checked(path)
        found = {"index": meta.get("Index"), "term": meta.get("Term"), "cluster_id": self.health.get("cluster_id", "")}
        return {
            "time": begun,
            "version": self.health.get("version", ""),
            "canary": canary,
            **found,
            "contents": contents(path),
            **files.described(path),
        }

    def close(self) -> None:
        """Revoke the token of this login. Raises Problem."""
        self.call("PUT", "auth/token/revoke-self", {})


def checked(path: Path) -> dict[str, t.Any]:
    """What a snapshot says of itself. Raises Problem unless it is whole."""
    digests: dict[str, str] = {}
    texts: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.isfile():
                    digests[member.name], start = _digest(archive.extractfile(member))
                    texts[member.name] = start.decode(errors="replace")
        expected = dict(reversed(line.split()) for line in texts["SHA256SUMS"].splitlines())
        wrong = {"meta.json", "state.bin"} - set(expected)
        wrong |= {name for name, digest in expected.items() if digests.get(name) != digest}
        meta = json.loads(texts.get("meta.json", "{}"))
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, zlib.error):
        raise Problem("Vault's snapshot is not one, or it is cut short.") from None
    if wrong:
        raise Problem(f"Vault's snapshot is damaged: {', '.join(sorted(wrong))} is not what it was.")
    return meta


def contents(path: Path) -> str:
    """A digest of what the engines of a snapshot hold, secrets and keys, without tokens, leases and logins.

    state.bin is a sequence of entries, each with its length in front: a key and a value, which Vault has encrypted. An
    entry that is not written again stays the same.
    """
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        state_bin = archive.extractfile("state.bin")
        while (length := _varint(state_bin)) is not None:
            fields = _fields(state_bin.read(length))
            if fields.get(1, b"").startswith(ENGINES):
                found[fields[1]] = hashlib.sha256(fields.get(2, b"")).digest()
    return hashlib.sha256(b"".join(key + b"\0" + value for key, value in sorted(found.items()))).hexdigest()


def _varint(content: t.BinaryIO) -> int | None:
    """The next number of protocol buffers; None at the end."""
    value = shift = 0
    while byte := content.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    return None


def _fields(message: bytes) -> dict[int, bytes]:
    """The fields of a message of protocol buffers that are bytes, by number. Others are left out."""
    content, found = io.BytesIO(message), {}
    while (tag := _varint(content)) is not None:
        if tag & 7 == BYTES:
            found[tag >> 3] = content.read(_varint(content) or 0)
        elif tag & 7 == NUMBER:
            _varint(content)
        else:
            raise Problem(f"Vault's snapshot has an entry of an unknown kind ({tag & 7}). Update this project.")
    return found


def _digest(content: t.BinaryIO) -> tuple[str, bytes]:
    """The SHA-256 of a file and its first bytes."""
    digest, start = hashlib.sha256(), b""
    while block := content.read(files.CHUNK):
        start = start or block
        digest.update(block)
    return digest.hexdigest(), start
