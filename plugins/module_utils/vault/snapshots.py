# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of Vault's raft storage."""

from __future__ import annotations

import hashlib
import io
import tarfile

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
