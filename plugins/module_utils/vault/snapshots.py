# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of Vault's raft storage."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Callable

from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault


def check_snapshot(content: bytes) -> None:
    """Raise VaultProblem unless this is a whole snapshot of Vault's raft storage."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        sums = dict(reversed(line.split()) for line in files["SHA256SUMS"].decode().splitlines())
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError):
        raise vault.VaultProblem("This is not a snapshot of Vault, or it is cut short.") from None
    wrong = {"meta.json", "state.bin"} - set(sums)
    wrong |= {name for name, sum_ in sums.items() if hashlib.sha256(files.get(name, b"")).hexdigest() != sum_}
    if wrong:
        raise vault.VaultProblem(f"The snapshot is damaged: {', '.join(sorted(wrong))} is not what it was.")


def replace_storage(
    client: vault.hvac.Client, content: bytes, token: str, deadline: float, replaced: Callable[[], bool], force: bool
) -> None:
    """Give Vault a snapshot, and wait until it runs on it. Raises VaultProblem.

    token: a root token of the Vault that runs now, which the client has afterwards. deadline: seconds.
    replaced: whether Vault runs on the snapshot's storage. force: the snapshot is of a Vault with other keys.
    """
    # hvac encodes bodies as JSON, so this one call is made without it.
    answer = client.session.post(
        f"{client.url}/v1/sys/storage/raft/snapshot{'-force' if force else ''}",
        data=content,
        headers={"X-Vault-Token": token},
        timeout=deadline,
    )
    if answer.status_code >= 300:
        raise vault.VaultProblem(
            f"Vault does not take the snapshot (status {answer.status_code}): {answer.text.strip()}"
        )
    client.token, end = token, time.monotonic() + deadline
    while not replaced():
        if time.monotonic() > end:
            raise vault.VaultProblem(
                f"Vault at {client.url} took the snapshot, but still runs without it after {deadline} s; see the log of"
                " its container."
            )
        time.sleep(vault.POLL_SECONDS)
