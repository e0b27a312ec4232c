# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Vault's keys on their way to the controller: the pad that hides them, and what to do after a run was cut off."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault.markers import RESTORE


def pad_length(shares: int) -> int:
    """Return how many bytes of pad hide the keys of a Vault with that many shares, with room for PGP's encryption."""
    return 1024 + 4096 * shares


def with_pad(data: bytes, pad: bytes) -> bytes:
    """Encrypt or decrypt `data` with a one-time pad: random bytes, at least as many, never used again.

    Raises VaultProblem if the pad is too short.
    """
    if len(pad) < len(data):
        raise vault.VaultProblem("The pad is shorter than the keys that it has to hide.")
    return bytes(left ^ right for left, right in zip(data, pad, strict=False))


def verdict(*, state: str, marker: str | None, keys_file: str, keys_present: bool, keys_init_id: str | None) -> str:
    """Return what to do about a Vault's keys, from the state of the host and the controller.

    `state` is the Vault's, `marker` the id in its init marker (None: no marker), `keys_file` a path for messages,
    `keys_init_id` the id that the keys file carries. Returns one of

    - `init`: nothing there yet, initialise
    - `settled`: initialised, keys in custody
    - `confirm`: as `settled`, but the marker has outlived its run: remove it
    - `reset`: initialised by a run whose keys never reached the controller; so nothing was seeded, start anew

    Raises VaultProblem with the remedy where going on could lose something.
    """
    if marker == RESTORE:
        raise vault.VaultProblem("A restore was cut off. Run restore.yml or vault_restore.yml again, whichever it was.")
    if state == vault.UNINITIALIZED:
        if keys_present:
            raise vault.VaultProblem(
                f"Vault is empty (uninitialised), yet {keys_file} holds the keys of an earlier one. Restore its"
                " data with restore.yml, have move.yml bring it from the server that has it, or, from a snapshot of"
                " Vault alone, use vault_restore.yml. If it is not needed any more, move the keys file away and run"
                " again."
            )
        return "init"
    if keys_present:
        if marker is None:
            return "settled"
        if marker == keys_init_id:
            return "confirm"
        raise vault.VaultProblem(
            f"{keys_file} holds the keys of another initialisation than the one that was interrupted on this host."
            " Move that file away (keep it) and run again, or restore the file that belongs to this host."
        )
    if marker is None:
        raise vault.VaultProblem(
            f"Vault is initialised, but its keys are not at {keys_file}. Restore that file from the machine that"
            " provisioned this server or from its backup. Only if every secret in this Vault may be lost: remove the"
            " Vault container and its data volume on the host and run again."
        )
    if state != vault.SEALED:
        raise vault.VaultProblem(
            f"An initialisation was interrupted and {keys_file} is missing, but Vault has been unsealed since, so"
            " its keys exist. Restore the keys file and run again; nothing is deleted."
        )
    return "reset"
