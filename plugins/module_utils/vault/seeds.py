# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets that an inventory has for Vault, and how each of them is to be written.

A seed is a path below kv and an entry. C(ensure) writes the entry's fields if the path never held anything, C(enforce)
makes them always what the inventory says, C(generate) makes random values of given lengths once. An entry of plain
fields is of the kind C(ensure).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.openmates.server.plugins.module_utils.vault.api import VaultProblem

# As JSON, which is one secret for Ansible's masking: were each value one, a short one would mask parts of the result.
SEEDS: dict[str, dict[str, Any]] = {"seeds": {"type": "json", "no_log": True}}

#: The folders below kv that the api reads, and that seeds and rotations may write to.
FOLDERS = ("providers", "system")
_PATH = re.compile(rf"({'|'.join(FOLDERS)})(/[A-Za-z0-9][A-Za-z0-9_.-]*)+")
#: What precedes a path in the forms that Vault's own tools use.
_PREFIX = re.compile(r"/*(v1/)?((kv|secret)/)?((data|metadata)/)?/*")

ENSURE, ENFORCE, GENERATE = KINDS = ("ensure", "enforce", "generate")
LENGTHS = range(16, 513)


class Seed(NamedTuple):
    """One secret; its fields are values or, of the kind `generate`, lengths."""

    path: str
    kind: str
    fields: dict[str, Any]


def seed_kind(entry: Any) -> tuple[str, Any]:
    """The kind of a seed's entry and its fields, unchecked."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        kind, fields = next(iter(entry.items()))
        if kind in KINDS and isinstance(fields, Mapping):
            return kind, fields
    return "ensure", entry


def path_problem(path: str) -> tuple[str, str] | None:
    """What is wrong with the path of a secret and its right form, or None."""
    if _PATH.fullmatch(path):
        return None
    rest = _PREFIX.sub("", path, count=1).rstrip("/")
    meant = rest if "/" in rest or rest in FOLDERS else f"{FOLDERS[0]}/{rest}"
    begin = f"Begin it with {' or '.join(FOLDERS)}, as in {FOLDERS[0]}/x"
    return "is not a path below kv that the api reads", f"Write it as {meant}" if _PATH.fullmatch(meant) else begin


def seed_problem(entry: Any) -> str:
    """What is wrong with a seed's entry, without any value of it, or an empty string."""
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


def seeds_of(text: str | None) -> dict[str, Seed]:
    """Return the seeds of an inventory by path. Raises VaultProblem for an entry that is none, naming its path only."""
    found = {}
    for path, entry in sorted(json.loads(text or "{}").items()):
        if problem := seed_problem(entry):
            raise VaultProblem(f"The seed {path} {problem}.")
        kind, fields = seed_kind(entry)
        found[path] = Seed(path, kind, dict(fields))
    return found
