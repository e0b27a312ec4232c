# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new server: what it is, and what is put into the place of what it holds."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import typing as t
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from openmates_backup import commands, files, postgres_restore, restore_files, state
from openmates_backup.cache import Cache
from openmates_backup.config import Config
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases, session
from openmates_backup.problem import Problem

from openmates_import.export import listing
from openmates_import.places import RECEIVED, STAGING, VAULT_RECEIVED

DATABASE, CACHE = "cms-database", "cache"
#: Neither the accounts that this project makes nor users of Directus that an inventory declares, which have no address.
USERS = (
    "select count(*) from public.directus_users u where to_jsonb(u)->>'vault_key_id' is not null or"
    " (to_jsonb(u)->>'email' is not null and coalesce(to_jsonb(u)->>'tags', '') !~ 'openmates-(admin|account)')"
)
#: Owners and permissions are this server's.
AS_OURS = ("--no-owner", "--no-privileges")


def config_of(docker_root: str) -> Config:
    return Config(
        repository="", host="", environment="", keep={}, volumes={}, databases={}, docker_root=Path(docker_root)
    )


class Server:
    """The new server, whose services are this project's."""

    def __init__(self, config: Config, database: str) -> None:
        self.config, self.database = config, database
        self.containers = Containers(config.project)
        self.databases = Databases(self.containers, DATABASE)

    def look(self) -> dict[str, t.Any]:
        """What an import has to know of it. Changes nothing."""
        try:
            return {**self.recorded(), "problems": [], "database": self._database(), "free": self._free()}
        except Problem as problem:
            return {**self.recorded(), "problems": [f"{problem} Run site.yml."]}

    def recorded(self) -> dict[str, t.Any]:
        """What is known of an import into this server."""
        return {"record": state.read(self.record)}

    @property
    def record(self) -> Path:
        return self.config.state / "import.json"

    def _database(self) -> dict[str, t.Any]:
        with session(self.databases.program("psql"), self.database) as opened:
            return {
                "name": self.database,
                "major": int(opened.one("show server_version_num")) // 10000,
                "migrations": [version for [version] in opened.ask("select version from public.directus_migrations")],
                "users": int(opened.one(USERS)),
                "collections": [one for [one] in opened.ask("select collection from public.directus_collections")],
            }

    def _free(self) -> dict[str, int]:
        """The bytes that are free for the copies, and for the data."""
        place = next(parent for parent in (STAGING, *STAGING.parents) if parent.exists())
        return {"staging": shutil.disk_usage(place).free, "docker": shutil.disk_usage(self.config.docker_root).free}

    def begin(self, origin: str) -> None:
        """Make the directories of the copies, and record that this server's data is incomplete."""
        for folder in (STAGING, RECEIVED, VAULT_RECEIVED, self.config.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.write(self.record, {"from": origin, "state": "importing", "since": state.now()})

    def put(self, manifest: Mapping[str, t.Any], say: Callable[[str], None]) -> dict[str, t.Any]:
        """Replace database and files by the copies, and compare them. It can be repeated. Raises Problem, OSError."""
        for about in (manifest["database"], *manifest["volumes"].values()):
            self._check_copy(about)
        say("restoring the database")
        found = {"database": self._put_database(manifest["database"])}
        for volume, about in manifest["volumes"].items():
            say(f"restoring {volume}")
            found[volume] = put_files(RECEIVED / Path(about["file"]).name, self.have_volume(volume), about)
        # What Directus and the api remember of the database that was replaced.
        Cache(self.containers, CACHE).ask("FLUSHALL")
        return found

    @staticmethod
    def _check_copy(about: Mapping[str, t.Any]) -> None:
        path = RECEIVED / Path(about["file"]).name
        if not path.is_file() or files.sha256(path) != about["sha256"]:
            raise Problem(f"{path} is not what the old server has sent. Nothing was replaced. Run this again.")

    def _put_database(self, about: Mapping[str, t.Any]) -> dict[str, int]:
        with session(self.databases.program("psql"), postgres_restore.MAINTENANCE) as opened:
            # The order of texts is the new server's, because it may not have that of the old one.
            collations = dict(opened.ask("select datname, datcollate from pg_catalog.pg_database"))
        dump = RECEIVED / Path(about["file"]).name
        return postgres_restore.restore(
            self.databases, self.database, {**about, "collation": collations[self.database]}, dump, options=AS_OURS
        )

    def have_volume(self, name: str) -> Path:
        return restore_files.have_volume(self.config, name)

    def end(self, origin: str, rehearsal: bool) -> None:
        """Remove the copies. After a rehearsal the import is still to be done."""
        for folder in (VAULT_RECEIVED, RECEIVED):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            STAGING.rmdir()
        if not rehearsal:
            state.write(self.record, {"from": origin, "state": "imported", "since": state.now()})


def put_files(archive: Path, folder: Path, about: Mapping[str, t.Any]) -> dict[str, int]:
    """Replace a directory's files by an archive's, for the owner of the directory. Raises Problem and OSError."""
    owner = folder.stat()
    restore_files.remove_contents(folder)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    command = ["chown", "--recursive", "--no-dereference", f"{owner.st_uid}:{owner.st_gid}", str(folder)]
    commands.output(command, f"Giving {folder} to its owner")
    now = listing(found_in(folder))
    if any(now[name] != about[name] for name in now):
        raise Problem(
            f"The files in {folder} are not those of the old server: {now['files']} files with {now['content']} bytes"
            f" instead of {about['files']} with {about['content']}, or other content. Run this again."
        )
    return {"files": now["files"], "bytes": now["content"]}


def found_in(folder: Path) -> list[tuple[str, int, str]]:
    found: Sequence[tuple[str, int, str]] = [
        (str(path.relative_to(folder)), status.st_size, files.sha256(path)) for path, status in files.regular(folder)
    ]
    return sorted(found)
