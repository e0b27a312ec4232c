# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault: a snapshot of its raft storage, and a canary that only this Vault's keys can decrypt."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import shutil
import tarfile
import typing as t
import zlib
from pathlib import Path

from openmates_backup import files, state
from openmates_backup.problem import Problem

MOUNT, KEY = "transit", "openmates-canary"
SECONDS = 120
AGAIN = "`site.yml --tags vault` writes the login and its permissions again."


class Vault:
    """Vault's API with the login of the backup. No proxy takes part."""

    def __init__(self, address: str, login: dict[str, str]) -> None:
        """`address`: host:port. Raises Problem."""
        self.address, self.token = address, ""
        health = self.call("GET", "sys/health?sealedcode=200&uninitcode=200&standbyok=true")
        if not health.get("initialized") or health.get("sealed"):
            raise Problem(
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
            raise Problem(f"Vault does not answer at {self.address}: {error}.") from None
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


def _digest(content: t.BinaryIO) -> tuple[str, bytes]:
    """The SHA-256 of a file and its first bytes."""
    digest, start = hashlib.sha256(), b""
    while block := content.read(files.CHUNK):
        start = start or block
        digest.update(block)
    return digest.hexdigest(), start
