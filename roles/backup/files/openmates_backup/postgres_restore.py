# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL: a database is restored beside the present one and compared with the manifest before it replaces it."""

from __future__ import annotations

import re
import subprocess
import typing as t
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from openmates_backup import commands
from openmates_backup.postgres import Databases, different, digests, session
from openmates_backup.problem import Problem

BESIDE = "openmates_restoring"  # a restore that is killed leaves it; the next one removes it
MAINTENANCE = "template1"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def major(databases: Databases) -> int:
    """The major version of the running server. Raises Problem."""
    with session(databases.program("psql"), MAINTENANCE) as opened:
        return int(opened.one("show server_version_num")) // 10000


def contents(databases: Databases) -> list[str]:
    """The names of the databases that have a table. Raises Problem."""
    found = []
    for name in databases.names():
        with session(databases.program("psql"), name) as opened:
            if opened.ask("select 1 from pg_catalog.pg_class where relkind = 'r' and oid >= 16384 limit 1"):
                found.append(name)
    return found


def statements(globals_sql: str, present: Collection[str], user: str) -> Iterator[str]:
    """What makes the roles that are missing. The service's own user and its password are this server's already."""
    for line in globals_sql.splitlines():
        made = re.match(r"CREATE ROLE (.+);$", line)
        changed = re.match(r"ALTER ROLE (\S+) ", line)
        skipped = (made and unquoted(made[1]) in present) or (changed and unquoted(changed[1]) == user)
        if line and not line.startswith(("--", "\\")) and not skipped:
            yield line


def unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def restore_roles(databases: Databases, globals_sql: str) -> None:
    """Raises Problem."""
    with session(databases.program("psql"), MAINTENANCE) as opened:
        present = {name for [name] in opened.ask("select rolname from pg_catalog.pg_roles")}
    script = "\n".join(statements(globals_sql, present, databases.user))
    done = subprocess.run(
        [*databases.program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={MAINTENANCE}"],
        input=script.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:  # without the line that psql shows, which may have the digest of a password
        said = commands.reason(done.stderr.partition(b"LINE ")[0])
        raise Problem(f"The roles of {databases.service} could not be restored: {said}.")


def restore(
    databases: Databases, name: str, about: Mapping[str, t.Any], dump: Path, options: Sequence[str] = ()
) -> dict[str, int]:
    """Replace a database by a dump. Raises Problem, and then the present one is as it was.

    `options`: more of pg_restore.
    """
    administer(
        databases,
        f"drop database if exists {BESIDE} with (force)",
        f"create database {BESIDE} template template0 owner {identifier(databases.user)}"
        f" encoding {literal(about['encoding'])} lc_collate {literal(about['collation'])}"
        f" lc_ctype {literal(about['collation'])}",
    )
    try:
        found = restored(databases, name, dump, options)
        if wrong := different(found, about["tables"]):
            raise Problem(
                f"The database {name} was not replaced, because what was restored is not what the manifest says:"
                f" {', '.join(wrong)}. Use another snapshot."
            )
    except Problem:
        administer(databases, f"drop database if exists {BESIDE} with (force)")
        raise
    administer(
        databases,
        f"drop database if exists {identifier(name)} with (force)",
        f"alter database {BESIDE} rename to {identifier(name)}",
    )
    return {"tables": len(found), "rows": sum(table["rows"] for table in found.values())}


def restored(databases: Databases, name: str, dump: Path, options: Sequence[str] = ()) -> dict[str, dict[str, t.Any]]:
    """Restore a dump beside the present database; the digests of its tables. Raises Problem."""
    # From standard input: the container sees no directory of the host.
    program = [
        *databases.program("pg_restore"),
        "--exit-on-error",
        "--single-transaction",
        f"--dbname={BESIDE}",
        *options,
    ]
    with dump.open("rb") as file:
        commands.output(program, f"pg_restore of {name}", source=file)
    with session(databases.program("psql"), BESIDE) as opened:
        return digests(opened)


def administer(databases: Databases, *statements_: str) -> None:
    """Statements that are outside of any transaction. Raises Problem."""
    with session(databases.program("psql"), MAINTENANCE) as opened:
        for statement in statements_:
            opened.ask(statement)


def joined(results: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of several databases."""
    found = list(results)
    return {key: sum(one[key] for one in found) for key in ("tables", "rows")}
