# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copies of what the installer's server holds: its database, what its Vault has, and files."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import typing as t
from collections.abc import Callable
from pathlib import Path

from openmates_backup import files, state
from openmates_backup.postgres import session
from openmates_backup.problem import Problem

from openmates_import import vault_copy
from openmates_import.installer import FILES, Installer
from openmates_import.places import EXPORT, SECRET, STAGING, VAULT_EXPORT
from openmates_import.vault_export import Sample, export

SAMPLES = 20  # of each column
COLUMNS = (
    "select quote_ident(column_name) from information_schema.columns where table_schema = 'public' and table_name ="
    " 'directus_users' and data_type in ('text', 'character varying') order by 1"
)
CIPHERTEXTS = (
    "select vault_key_id, {column} from public.directus_users where {column} like 'vault:v%' and vault_key_id is not"
    " null order by random() limit {limit}"
)
REFERENCES = "select distinct vault_key_id from public.directus_users where vault_key_id is not null"


def rehearse(installer: Installer, say: Callable[[str], None]) -> dict[str, t.Any]:
    """Open Vault's copy while the server serves: nothing is paused for what cannot be opened. Raises Problem."""
    return export_vault(installer, say)


def export_all(installer: Installer, say: Callable[[str], None]) -> dict[str, t.Any]:
    """Copy everything; it has to be stopped before. Raises Problem and OSError."""
    shutil.rmtree(EXPORT, ignore_errors=True)
    EXPORT.mkdir(mode=0o700, parents=True)
    begun = state.now()
    say("dumping the database")
    name = installer.database
    # Not with the roles: the new server has its own.
    database = {"name": name, **installer.databases.dump(name, EXPORT / "database.dump")}
    vault = export_vault(installer, say)
    volumes = {}
    for volume, (service, path) in FILES.items():
        if folder := installer.mounted(service, path):
            say(f"packing {path} of {service}")
            volumes[volume] = pack(folder, EXPORT / f"{volume}.tar")
    return {"started": begun, "database": database, "vault": vault, "volumes": volumes}


def export_vault(installer: Installer, say: Callable[[str], None]) -> dict[str, t.Any]:
    """Raises Problem."""
    samples, references = _of_database(installer)
    say("opening a copy of Vault's storage")
    vault_copy.remove()
    try:
        with vault_copy.opened(
            installer.vault_storage,
            installer.unseal_key(),
            STAGING,
            SECRET,
            lambda configuration, folders: vault_copy.container(installer.vault_image, configuration, folders),
        ) as copy:
            return export(copy, VAULT_EXPORT, samples, references)
    finally:
        vault_copy.remove()


def _of_database(installer: Installer) -> tuple[list[Sample], list[str]]:
    """Ciphertexts of users' rows, and the names of all keys of theirs. Raises Problem."""
    with session(installer.databases.program("psql"), installer.database) as opened:
        columns = [name for [name] in opened.ask(COLUMNS)]
        if "vault_key_id" not in columns:
            return [], []
        asked = [CIPHERTEXTS.format(column=column, limit=SAMPLES) for column in columns]
        return [Sample(*row) for sql in asked for row in opened.ask(sql)], [key for [key] in opened.ask(REFERENCES)]


def pack(folder: Path, archive: Path) -> dict[str, t.Any]:
    """The files of a directory in one. Raises Problem and OSError."""
    with tarfile.open(archive, "x", format=tarfile.PAX_FORMAT) as packed:
        for path, _ in files.regular(folder):
            packed.add(path, str(path.relative_to(folder)), recursive=False)
    with tarfile.open(archive) as packed:
        found = sorted((member.name, member.size, _digest(packed, member)) for member in packed if member.isfile())
    return {**listing(found), **files.described(archive)}


def listing(found: list[tuple[str, int, str]]) -> dict[str, t.Any]:
    """How many files there are, their size, and a digest of all: name, size and SHA-256 of each."""
    text = "".join(f"{name}\0{size}\0{digest}\n" for name, size, digest in found)
    return {
        "files": len(found),
        "content": sum(size for _, size, _ in found),
        "listing": hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(),
    }


def _digest(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = packed.extractfile(member)
    if content is None:
        raise Problem(f"{member.name} was packed and cannot be read again.")
    digest = hashlib.sha256()
    while block := content.read(files.CHUNK):
        digest.update(block)
    return digest.hexdigest()


def clean() -> None:
    """Remove all copies, and what a killed run left."""
    vault_copy.remove()
    for folder in (SECRET, EXPORT, STAGING / "vault"):
        shutil.rmtree(folder, ignore_errors=True)
