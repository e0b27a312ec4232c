# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's secrets, and who unseals it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.module_utils.vault.seeds import path_problem, seed_kind, seed_problem
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight


def check_vault_seeds(run: Preflight) -> Iterator[str]:
    name, seeds = "openmates_vault_seeds", run.get("openmates_vault_seeds", {})
    remedy = 'Write it as {"providers/openai": {"api_key": "..."}}'
    for path, entry in seeds.items():
        fields = seed_kind(entry)[1]
        if wrong := path_problem(str(path)):
            yield run.problem(name, f"{path!r} {wrong[0]}", wrong[1])
        if problem := seed_problem(entry):
            yield run.problem(name, f"{path} {problem}", remedy)
        elif any(
            isinstance(value, str) and re.search(r"<[^>]+>|change-?me|^\.\.\.$", value, re.I)
            for value in fields.values()
        ):
            yield run.problem(
                name, f"{path} still contains a placeholder", "Set the key, or remove the entry to add it later"
            )


def check_vault_unseal(run: Preflight) -> Iterator[str]:
    """Who unseals Vault, and whether the shares are in a form that allows it."""
    name, keys = "openmates_vault_pgp_keys", run.get("openmates_vault_pgp_keys", [])
    if not keys:
        return
    wanted = 5 if run.environment == "prod" else 1
    if len(keys) != wanted:
        yield run.problem(
            name, f"it has {len(keys)} keys for {wanted} shares", "Give one key per share; a person may hold several"
        )
    for number, key in enumerate(keys, start=1):
        try:
            base64.b64decode(str(key), validate=True)
        except ValueError:
            yield run.problem(name, f"key {number} is not base64", "Create it with `gpg --export NAME | base64 -w0`")
    if run.get("openmates_vault_unseal", "host") == "host":
        yield run.problem(
            name,
            "the shares would be encrypted for their holders, so the server could not unseal Vault with them",
            "Set openmates_vault_unseal: operator, or remove the keys",
        )


CHECKS = (check_vault_seeds, check_vault_unseal)
