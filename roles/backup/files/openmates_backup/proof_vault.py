# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of Vault: its snapshot in an empty Vault without a network, opened by this server's own unseal shares."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import subprocess
import typing as t
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from openmates_backup import credentials
from openmates_backup.problem import Problem
from openmates_backup.proof_project import SECONDS, Project
from openmates_backup.vault import checked

try:
    from ansible_collections.openmates.server.plugins.module_utils.vault import api
except ImportError:  # on the host it is beside this package
    import vault_api as api

SERVICE = "vault"
SHARES = "openmates-vault-shares"
OPERATOR = "operator"
PROGRAMS = {"vault": "vault", "openbao": "bao"}
HOMES = {"vault": "/vault", "openbao": "/openbao"}
#: What only one of the two takes. Both: a root token from the shares, which is that of the copy and ends with it.
LISTENER = {"openbao": "disable_unauthed_generate_root_endpoints = false", "vault": ""}
MORE = {
    "openbao": 'audit "file" "stdout" {\n  options {\n    file_path = "stdout"\n  }\n}',
    "vault": 'disable_mlock = true\nenable_unauthenticated_access = ["generate-root"]',
}
CONFIGURATION = """
listener "tcp" {{
  address     = "127.0.0.1:8200"
  tls_disable = true
  {listener}
}}
storage "raft" {{
  path    = "{home}/file"
  node_id = "openmates"
  performance_multiplier = 1
}}
api_addr     = "http://127.0.0.1:8200"
cluster_addr = "http://127.0.0.1:8201"
{more}
"""
START = 'printf %s "$CONFIGURATION" > /tmp/vault.hcl && exec {program} server -config=/tmp/vault.hcl'


class Unproven(Exception):
    """Why something cannot be proven on this server, although nothing is known to be wrong."""


class Tunnel(http.client.HTTPConnection):
    """A connection to a container that no network leads to: through nc, which runs in it."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        super().__init__("127.0.0.1", timeout=seconds)
        self.command, self.process = command, None

    def connect(self) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(self.timeout)
        self.process = subprocess.Popen(self.command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
        theirs.close()

    def close(self) -> None:
        super().close()
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Copy(api.Api):
    """The API of the Vault in the container."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__("http://127.0.0.1:8200", SECONDS)
        self.command = command
        self._connection = lambda *_, timeout: Tunnel(self.command, timeout)

    def done(self, method: str, path: str, body: dict | None = None, token: str = "") -> dict[str, t.Any]:
        """The answer to a call that must succeed. Raises Problem."""
        status, answer = self.call(method, path, body, token)
        if status >= 300:
            raise Problem(f"The restored Vault refuses {method} {path} (status {status}).")
        return answer

    def is_(self, state: str) -> bool:
        """Whether it answers and is in this state."""
        try:
            return self.state() == state
        except api.VaultProblem:
            return False

    def replace(self, snapshot: Path, token: str) -> None:
        """Put the snapshot in the place of the storage. Raises Problem."""
        tunnel = Tunnel(self.command, SECONDS)
        try:
            with snapshot.open("rb") as file:
                headers = {"X-Vault-Token": token, "Content-Length": str(snapshot.stat().st_size)}
                tunnel.request("POST", "/v1/sys/storage/raft/snapshot-force", file, headers)
                answer = tunnel.getresponse()
                text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Problem(f"Vault's snapshot cannot be restored: {error}.") from None
        finally:
            tunnel.close()
        if answer.status >= 300:
            raise Problem(f"Vault does not take its snapshot (status {answer.status}): {' '.join(text.split())[:200]}.")

    def root_token(self, shares: Sequence[str]) -> str:
        """A root token of this copy, from the shares. Raises Problem."""
        path = "sys/generate-root/attempt"
        self.call("DELETE", path)
        attempt = self.done("PUT", path, {})
        for share in shares:
            answer = self.done("PUT", "sys/generate-root/update", {"key": share, "nonce": attempt["nonce"]})
        encoded = answer["encoded_token"]
        hidden = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        return bytes(a ^ b for a, b in zip(hidden, attempt["otp"].encode(), strict=True)).decode()


def shares_of(unseal: str) -> list[str]:
    """The unseal shares that this server keeps for itself. Raises Unproven and Problem."""
    if unseal == OPERATOR:
        raise Unproven(
            "This server has no unseal shares (openmates_vault_unseal: operator), so it cannot open the Vault of a"
            " backup. Prove it with the shares: restore the snapshot on another server, and unseal it."
        )
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not (folder and (Path(folder) / SHARES).exists()) and not (credentials.STORE / SHARES).exists():
        raise Problem(
            f"The unseal shares of this server, {credentials.STORE / SHARES}, are missing. `site.yml --tags vault`"
            " stores them again."
        )
    return list(credentials.secrets(SHARES)["shares"])


def prove(project: Project, about: Mapping[str, t.Any], shares: Sequence[str], place: Callable[[str], Path]) -> str:
    """What was proven. Raises Problem."""
    snapshot = place(about["file"])
    checked(snapshot)
    engine = about["engine"]
    home = HOMES[engine]
    text = CONFIGURATION.format(home=home, listener=LISTENER[engine], more=MORE[engine])
    options = [f"--env=CONFIGURATION={text}", "--env=GOMEMLIMIT=200MiB", "--entrypoint=/bin/sh"]
    options += [f"--tmpfs={home}/logs", f"--tmpfs={home}/config"]
    command = ["-c", START.format(program=PROGRAMS[engine])]
    with project.started(SERVICE, command, {f"{home}/file": "vault"}, options) as containers:
        vault = Copy(containers.inside(SERVICE, "nc", "127.0.0.1", "8200"))
        try:
            open_(project, vault, snapshot, shares)
            decrypt(vault, about["canary"], shares)
        except api.VaultProblem as problem:
            raise Problem(f"The restored Vault failed: {problem}") from None
    return "the canary was decrypted"


def open_(project: Project, vault: Copy, snapshot: Path, shares: Sequence[str]) -> None:
    """Restore the snapshot into the empty Vault and unseal it. Raises Problem and VaultProblem."""
    project.wait(SERVICE, lambda: vault.is_(api.UNINITIALIZED))
    # With as many shares as the snapshot's Vault needs: the running server goes by the number that it began with.
    counts = {"secret_shares": len(shares), "secret_threshold": len(shares)}
    passing = vault.done("PUT", "sys/init", counts)
    api.submit_shares(vault, passing["keys"])
    project.wait(SERVICE, lambda: vault.is_(api.ACTIVE))
    vault.replace(snapshot, passing["root_token"])
    project.wait(SERVICE, lambda: vault.is_(api.SEALED))  # by itself, as the snapshot's keys are others
    try:
        api.submit_shares(vault, list(shares))
    except api.SharesRefused:
        raise Problem(
            "The unseal shares of this server do not open the Vault in the snapshot: they are another Vault's. Run"
            " `site.yml --tags vault`, then back up again; without the right shares this backup of Vault is useless."
        ) from None
    project.wait(SERVICE, lambda: vault.is_(api.ACTIVE))


def decrypt(vault: Copy, canary: Mapping[str, str], shares: Sequence[str]) -> None:
    """Raises Problem unless this Vault has the keys of the one that was backed up."""
    token = vault.root_token(shares)
    body = {"ciphertext": canary["ciphertext"]}
    status, answer = vault.call("PUT", f"{canary['mount']}/decrypt/{canary['key']}", body, token)
    text = base64.b64decode(answer["data"]["plaintext"]) if status == 200 else b""
    if hashlib.sha256(text).hexdigest() != canary["sha256"]:
        raise Problem(
            f"The Vault in the snapshot cannot decrypt what the server's Vault encrypted (key {canary['key']}, status"
            f" {status}): it has other keys. What the database has encrypted cannot be read with this snapshot. Back"
            " up again now, and keep the snapshots before."
        )
