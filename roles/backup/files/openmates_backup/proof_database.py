# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the databases: dumps restored into an empty server, each table compared with the manifest."""

from __future__ import annotations

import secrets
import typing as t
from collections.abc import Callable, Mapping
from pathlib import Path

from openmates_backup import commands
from openmates_backup.postgres import Databases, different, digests, session
from openmates_backup.postgres_restore import restore_roles
from openmates_backup.problem import Problem
from openmates_backup.proof_project import Project, program

DATA = "/var/lib/postgresql/data"
MAINTENANCE = "postgres"  # the only database that is there from the start
#: Small, and as fast as it gets: after a crash the whole database is thrown away.
OPTIONS = (
    *("listen_addresses=127.0.0.1", "shared_buffers=48MB", "maintenance_work_mem=32MB", "max_connections=10"),
    *("fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0"),
    *("max_wal_size=128MB", "autovacuum=off", "max_parallel_workers=0"),
)
SHOWN = 5  # tables in a message


def prove(project: Project, service: str, about: Mapping[str, t.Any], place: Callable[[str], Path]) -> str:
    """What was proven. `place`: where the file of a path in the manifest was restored. Raises Problem."""
    environment = (
        *(f"POSTGRES_USER={about['user']}", f"POSTGRES_DB={MAINTENANCE}", "POSTGRES_INITDB_ARGS=--no-sync"),
        f"POSTGRES_PASSWORD={secrets.token_hex()}",  # which the image asks for; nothing uses it
    )
    options = [f"--env={pair}" for pair in environment]
    options += ["--tmpfs=/var/run/postgresql:mode=1777", "--shm-size=64m"]
    command = ["postgres", *(part for option in OPTIONS for part in ("-c", option))]
    with project.started(service, command, {DATA: "database"}, options) as containers:
        # Over TCP: during its set-up the image runs a server that answers on its socket only.
        ready = ("pg_isready", "-q", "-h", "127.0.0.1", f"--username={about['user']}")
        project.wait(service, lambda: program(containers, service, *ready)[0] == 0)
        databases = Databases(containers, service)
        restore_roles(databases, place(about["globals"]["file"]).read_text())
        for name, dump in about["databases"].items():
            restore(databases, name, place(dump["file"]))
            with session(databases.program("psql"), name) as opened:
                wrong = different(digests(opened), dump["tables"])
            if wrong:
                more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
                raise Problem(
                    f"The database {name} of {service} is restored with other content than it had:"
                    f" {', '.join(wrong[:SHOWN])}{more}."
                )
    tables = [table for dump in about["databases"].values() for table in dump["tables"].values()]
    return f"{len(tables)} tables with {sum(table['rows'] for table in tables)} rows"


def restore(databases: Databases, name: str, dump: Path) -> None:
    """Raises Problem unless the whole dump can be restored."""
    target = [f"--dbname={MAINTENANCE}"] if name == MAINTENANCE else ["--create", "--dbname=template1"]
    program_ = [*databases.program("pg_restore"), "--exit-on-error", *target]
    with dump.open("rb") as file:
        commands.output(program_, f"Restoring {dump.name} of {databases.service}", source=file)
