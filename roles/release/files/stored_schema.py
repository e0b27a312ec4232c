# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directus's schema as its database has it: tables, columns, and what Directus knows of collections and fields.

Read in the database's own container, so that it needs no login and no running Directus.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

SERVICE = "cms-database"
#: One row per object: its kind and name, and a digest of its definition. Ids and places in a form (sort) differ after
#: an object was made again, and a new version of Directus adds empty columns to its own tables.
QUERY = """
select 'column ' || table_name || '.' || column_name, md5(concat_ws(' ', data_type, character_maximum_length,
       numeric_precision, numeric_scale, is_nullable, column_default))
  from information_schema.columns where table_schema = 'public'
union all
select 'collection ' || collection, md5(jsonb_strip_nulls(to_jsonb(item) - 'sort')::text)
  from directus_collections item
union all
select 'field ' || collection || '.' || field, md5(jsonb_strip_nulls(to_jsonb(item) - 'id' - 'sort')::text)
  from directus_fields item
union all
select 'relation ' || many_collection || '.' || many_field, md5(jsonb_strip_nulls(to_jsonb(item) - 'id')::text)
  from directus_relations item
union all
select 'migration ' || version, '' from directus_migrations
"""
Schema = dict[str, str]


def read(directory: Path) -> Schema | None:
    """The digest of each object by its kind and name; None if the database cannot be asked or has no Directus."""
    command = ["docker", "compose", "--ansi=never", "exec", "--no-TTY", SERVICE]
    command += ["psql", "-U", "directus", "-d", "directus", "-AtqF", "\t", "-v", "ON_ERROR_STOP=1", "-c", QUERY]
    try:
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    rows = [line.partition("\t") for line in done.stdout.splitlines()]
    return {name: digest for name, _, digest in sorted(rows)} if done.returncode == 0 and rows else None


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What was created, removed or changed, by name: collections, fields of those that stay, Directus's migrations."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        collection, dot, _ = name.partition(".")
        if old.get(name) == new.get(name) or (dot and (collection not in old or collection not in new)):
            continue
        found.append(f"{name}: {'changed' if name in old and name in new else 'created' if name in new else 'removed'}")
    return found


def _by_name(schema: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The digests of each collection and field: a field is a column, what Directus knows of it, and a relation."""
    found: dict[str, dict[str, str]] = {}
    for key, value in schema.items():
        kind, _, name = key.partition(" ")
        name = key if kind == "migration" else name
        collection, dot, _ = name.partition(".")
        if dot:
            found.setdefault(collection, {})
        found.setdefault(name, {})[kind] = value
    return found
