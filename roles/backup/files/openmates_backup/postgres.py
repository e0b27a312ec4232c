# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL: dumps of every database of a service, with a digest of each table from the same moment."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from openmates_backup import commands, files, state
from openmates_backup.containers import Containers
from openmates_backup.problem import Problem

END = "end-of-answer"  # no answer here has such a line
SEPARATOR = "\x1f"
#: The text of a row must not depend on how a server or a database is set up.
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "search_path": "",
}
TABLES = (
    "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname from pg_catalog.pg_class c"
    " join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relpersistence <> 't'"
    " and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' order by 1"
)
#: Two sums over all rows of 60 bits each of their SHA-256: the same in any order, and with any major version.
DIGEST = (
    "select count(*), coalesce(sum(('x' || lpad(substr(h, 1, 15), 16, '0'))::bit(64)::bigint::numeric), 0) || '.' ||"
    " coalesce(sum(('x' || lpad(substr(h, 16, 15), 16, '0'))::bit(64)::bigint::numeric), 0) from"
    " (select encode(sha256(convert_to(t::text, 'UTF8')), 'hex') as h from only {table} as t) as rows"
)


class Session:
    """One session of psql, which answers one question after the other, so that all can be in one transaction."""

    def __init__(self, psql: Sequence[str], database: str) -> None:
        """`psql`: the command, with the user. Raises Problem."""
        self.database = database
        options = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", f"--field-separator={SEPARATOR}"]
        self.process = subprocess.Popen(
            [*psql, *options, "--set=ON_ERROR_STOP=1", f"--dbname={database}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for name, value in SETTINGS.items():
            self.ask(f"set {name} = '{value}'")

    def ask(self, sql: str) -> list[list[str]]:
        """The rows of the answer to one statement. Raises Problem."""
        lines = []
        try:
            self.process.stdin.write(f"{sql};\n\\echo {END}\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.rstrip("\n") == END:
                    return [line.split(SEPARATOR) for line in lines]
                lines.append(line.rstrip("\n"))
        except BrokenPipeError:
            lines += self.process.stdout.read().splitlines()
        raise Problem(f"The database {self.database} does not answer `{sql[:60]}`: {commands.reason(' '.join(lines))}.")

    def one(self, sql: str) -> str:
        """The only value of an answer. Raises Problem."""
        [[value]] = self.ask(sql)
        return value

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@contextlib.contextmanager
def session(psql: Sequence[str], database: str) -> Iterator[Session]:
    """A session that ends with the block. Raises Problem."""
    opened = Session(psql, database)
    try:
        yield opened
    finally:
        opened.close()


def tables(opened: Session) -> dict[str, tuple[str, str]]:
    """Schema and name of each table of a database, by its quoted name. Raises Problem."""
    return {quoted: (schema, name) for quoted, schema, name in opened.ask(TABLES)}


def digests(opened: Session, of: Callable[[str], bool] = lambda _: True) -> dict[str, dict[str, t.Any]]:
    """The number of rows and the digest of each table of a database, by its quoted name. Raises Problem.

    `of`: whether a table is looked at.
    """
    found = {}
    for table in filter(of, tables(opened)):
        [[rows, digest]] = opened.ask(DIGEST.format(table=table))
        found[table] = {"rows": int(rows), "digest": digest}
    return found


class Databases:
    """The databases of one service, through the programs of its own container: no password is needed there."""

    def __init__(self, containers: Containers, service: str) -> None:
        self.containers, self.service = containers, service
        self.user = containers.environment(service, "POSTGRES_USER", "postgres")

    def program(self, name: str) -> list[str]:
        return self.containers.inside(self.service, name, f"--username={self.user}")

    def names(self) -> list[str]:
        """All but the templates. Raises Problem."""
        with session(self.program("psql"), "template1") as opened:
            found = opened.ask("select datname from pg_database where datallowconn and not datistemplate order by 1")
        return [name for [name] in found]

    def sizes(self) -> int:
        """The bytes that all databases take. Raises Problem."""
        with session(self.program("psql"), "template1") as opened:
            return int(opened.one("select coalesce(sum(pg_database_size(oid)), 0) from pg_database where datallowconn"))

    def back_up(self, expected: Sequence[str], folder: Path) -> dict[str, t.Any]:
        """Dump every database and the roles into a directory. Raises Problem."""
        names = self.names()
        if missing := sorted(set(expected) - set(names)):
            raise Problem(
                f"The service {self.service} has no database {', '.join(missing)}. It has lost its data, or"
                " openmates_services names another one: compare it with the last snapshot before anything is changed."
            )
        folder.mkdir(parents=True)
        described = {name: self.dump(name, folder / f"{name}.dump") for name in names}
        roles = folder / "globals.sql"
        commands.to_file([*self.program("pg_dumpall"), "--globals-only"], f"pg_dumpall of {self.service}", roles)
        with session(self.program("psql"), "template1") as opened:
            version, number = opened.one("show server_version"), int(opened.one("show server_version_num"))
        return {
            "server_version": version,
            "major": number // 10000,
            "user": self.user,
            "time": state.now(),
            "globals": files.described(roles),
            "databases": described,
        }

    def dump(self, name: str, dump: Path) -> dict[str, t.Any]:
        """Dump a database and take the digests of its tables in one snapshot, without a change in between."""
        with session(self.program("psql"), name) as opened:
            opened.ask("begin isolation level repeatable read read only")
            snapshot = opened.one("select pg_export_snapshot()")
            begun = state.now()
            # Not compressed: restic does that, and recognises what has not changed since the last dump.
            options = ["--format=custom", "--compress=0", f"--snapshot={snapshot}", f"--dbname={name}"]
            commands.to_file([*self.program("pg_dump"), *options], f"pg_dump of {name}", dump)
            names, found = tables(opened), digests(opened)
            encoding = opened.one("show server_encoding")
            collation = opened.one("select datcollate from pg_database where datname = current_database()")
        self.check(dump, names)
        more = {"time": begun, "encoding": encoding, "collation": collation, "tables": found}
        return files.described(dump) | more

    def check(self, dump: Path, expected: t.Mapping[str, tuple[str, str]]) -> None:
        """Raises Problem unless a dump can be read to its end and has the data of all these tables."""
        restore = self.containers.inside(self.service, "pg_restore")
        with dump.open("rb") as file:
            listed = commands.output([*restore, "--list"], f"Reading {dump.name}", source=file).decode(errors="replace")
        lacking = [table for table, names in expected.items() if f" TABLE DATA {' '.join(names)} " not in listed]
        if lacking:
            raise Problem(f"{dump.name} lacks the data of {', '.join(lacking)}. Nothing was stored.")
        with dump.open("rb") as file:
            commands.output([*restore, "--file=/dev/null"], f"Reading {dump.name} to its end", source=file)


def different(found: Mapping[str, t.Any], expected: Mapping[str, t.Any]) -> list[str]:
    """The tables that are not as expected, each with the difference."""
    return [
        f"{table} ({difference(found.get(table), expected.get(table))})"
        for table in sorted({*found, *expected})
        if found.get(table) != expected.get(table)
    ]


def difference(found: Mapping[str, t.Any] | None, expected: Mapping[str, t.Any] | None) -> str:
    if found is None or expected is None:
        return "missing" if found is None else "not in the manifest"
    if found["rows"] != expected["rows"]:
        return f"{found['rows']} rows instead of {expected['rows']}"
    return "other content"
