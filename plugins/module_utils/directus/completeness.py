# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Directus has the collections and fields that its set-up lists as its own."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.openmates.server.plugins.module_utils.directus import api

SHOWN = 20  # names in a message


def check(directus: api.Directus, file: str) -> None:
    """Raises Incomplete, naming what is missing."""
    try:
        written = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        expected = {name: set(fields) for name, fields in written["collections"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise api.Incomplete(f"{file}, the set-up's list of collections and fields, is not usable: {error}") from None
    if missing := lacking(directus, expected):
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise api.Incomplete(f"Directus lacks collections or fields of its set-up: {', '.join(missing[:SHOWN])}{more}.")


def lacking(directus: api.Directus, expected: dict[str, set[str]]) -> list[str]:
    """The names of missing collections and, as collection.field, of missing fields."""
    # An entry without a table is a folder, or the rest of a collection whose table was removed.
    tables = {item["collection"] for item in _all(directus, "/collections") if item.get("schema", {}) is not None}
    fields: dict[str, set[str]] = {}
    for item in _all(directus, "/fields"):
        fields.setdefault(item["collection"], set()).add(item["field"])
    found: list[str] = []
    for name in sorted(expected):
        if name not in tables:
            found.append(name)
        else:
            found += [f"{name}.{field}" for field in sorted(expected[name] - fields.get(name, set()))]
    return found


def _all(directus: api.Directus, path: str) -> list[dict[str, t.Any]]:
    return t.cast(list, directus.read_one(path)) or []
