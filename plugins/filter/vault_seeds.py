# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Select the secrets that an inventory declares for Vault by how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: vault_seeds
short_description: The seeds of one kind, by path
description:
  - The entry of a seed names one of three kinds. C(ensure) writes it if its path was never written, C(enforce) resets
    its fields to the inventory's values on every run, C(generate) creates random values of a given length once.
  - An entry without a kind is C(ensure).
positional: _input, kind
options:
  _input:
    description: Maps a path below kv to its entry.
    type: dict
    required: true
  kind:
    description: Which seeds to return.
    type: str
    choices: [ensure, enforce, generate]
    required: true
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
# -> {system/hmac: {key: 40}}
made: "{{ {'system/hmac': {'generate': {'key': 40}}} | openmates.server.vault_seeds('generate') }}"
"""

RETURN = r"""
_value:
  description: Maps a path to the fields of its entry.
  type: dict
"""

KINDS = ("ensure", "enforce", "generate")
LENGTHS = range(16, 513)


def seed_kind(entry: Any) -> tuple[str, Any]:
    """The kind of a seed's entry and its fields, not validated."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        kind, fields = next(iter(entry.items()))
        if kind in KINDS and isinstance(fields, Mapping):
            return kind, fields
    return "ensure", entry


def seed_problem(entry: Any) -> str:
    """The problem of a seed's entry, without its values, or an empty string."""
    kind, fields = seed_kind(entry)
    if not isinstance(fields, Mapping) or not fields:
        return "is not a table of fields"
    if len(set(fields) & set(KINDS)) and any(isinstance(fields[name], Mapping) for name in set(fields) & set(KINDS)):
        return f"mixes {', '.join(sorted(set(fields) & set(KINDS)))} with something else"
    if kind == "generate":
        wrong = [name for name, n in fields.items() if isinstance(n, bool) or n not in LENGTHS]
        if wrong:
            return f"has no length from {LENGTHS[0]} to {LENGTHS[-1]} to generate {', '.join(map(str, wrong))} with"
    return ""


def vault_seeds(seeds: Mapping, kind: str) -> dict[str, dict]:
    """The seeds of one kind. Raises AnsibleFilterError for an invalid entry, naming only its path."""
    found = {}
    for path, entry in sorted(seeds.items()):
        if problem := seed_problem(entry):
            raise AnsibleFilterError(f"The seed {path} {problem}.")
        own_kind, fields = seed_kind(entry)
        if own_kind == kind:
            found[path] = dict(fields)
    return found


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"vault_seeds": vault_seeds}
