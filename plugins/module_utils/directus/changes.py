# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between Directus and its declaration, by name and without secrets."""

from __future__ import annotations

import json
import typing as t

# Shown as changed, never by value. Directus masks them in its answers.
SECRET_FIELDS = frozenset({"password", "token"})


class Changes:
    """All changes that were made, or in check mode would be, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.before: list[str] = []
        self.after: list[str] = []

    def created(self, what: str, fields: dict) -> None:
        """A created object. `what`: its kind and name, such as "role editor"."""
        self.names.append(f"{what}: created")
        self.after += [f"{what}:", *_lines(fields)]

    def corrected(self, what: str, before: dict, after: dict) -> None:
        """Fields that differed from the declaration; both mappings have the same keys."""
        self.names.append(f"{what}: {', '.join(sorted(after))} corrected")
        self.before += [f"{what}:", *_lines(before, "(another)")]
        self.after += [f"{what}:", *_lines(after)]

    def removed(self, what: str) -> None:
        """A removed object."""
        self.names.append(f"{what}: removed")
        self.before.append(what)

    def noted(self, names: list[str]) -> None:
        """Changes that their name describes completely."""
        self.names += names
        self.after += names

    def diff(self) -> dict[str, str]:
        """For Ansible's --diff."""
        return {"before": _text(self.before), "after": _text(self.after)}


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _lines(fields: dict, hidden: str = "(as declared)") -> list[str]:
    return [
        f"  {name}: {hidden if name in SECRET_FIELDS else json.dumps(value, sort_keys=True, ensure_ascii=False)}"
        for name, value in sorted(fields.items())
    ]


def normal(value: t.Any) -> t.Any:
    """A comparable value: Directus has several empty values, and lists of strings are sets."""
    if value in (None, "", [], {}):
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return value


def differing(wanted: dict, found: dict) -> dict:
    """The fields of `wanted` that differ in `found`."""
    return {name: value for name, value in wanted.items() if normal(value) != normal(found.get(name))}


def declared(fields: dict, names: t.Iterable[str]) -> dict:
    """The named fields that the declaration sets; the others are not changed in Directus."""
    return {name: fields[name] for name in names if fields.get(name) is not None}
