"""The installer's server, and a new one beside it: databases of both versions, and what is between them."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles/import/files"), str(ROOT / "roles/backup/files"), str(Path(__file__).parent)]

import installer_server  # noqa: E402
from installer_server import IMAGE, PSQL, InstallerServer, docker, wait_until  # noqa: E402
from openmates_import import export, installer, server  # noqa: E402

CACHE_IMAGE = "openmates-lab/cache:latest"


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstallerServer]:
    if not installer_server.VAULT.is_file():
        pytest.fail(f"{installer_server.VAULT} is missing: `python lab/file_vault.py` makes it")
    found = InstallerServer(tmp_path_factory.mktemp("installer"), f"import-old-{secrets.token_hex(4)}")
    try:
        found.start()
        yield found
    finally:
        found.remove()


class New:
    """Database and cache of a provisioned server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, f"import-new-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(8)

    def start(self) -> None:
        (self.folder / "secrets").mkdir(parents=True)
        (self.folder / "secrets/DRAGONFLY_PASSWORD").write_text(self.password)
        self._run("cms-database", IMAGE, options=["--env=POSTGRES_USER=directus", "--env=POSTGRES_PASSWORD=x"])
        mounts = [f"--volume={self.folder / 'secrets'}:/run/secrets:ro", "--tmpfs=/data:mode=1777"]
        command = ["dragonfly", f"--requirepass={self.password}", "--dir=/data", "--dbfilename=dump", "--logtostderr"]
        command += ["--nodf_snapshot_format", "--maxmemory=512mb", "--proactor_threads=2", "--version_check=false"]
        self._run("cache", CACHE_IMAGE, *command, options=mounts)
        ready = ["exec", f"{self.project}-cms-database", "pg_isready", "-q", "-h", "127.0.0.1", "-U", "directus"]
        wait_until(lambda: docker(*ready, "-t", "1", check=False) == "" and self.psql("select 1", check=False), "ready")
        self.psql(
            "create table directus_migrations (version varchar(255)); insert into directus_migrations"
            " values ('20201028A'), ('20260101A'); create table directus_collections (collection text);"
            " create table directus_users (id int, email text, tags json); insert into directus_users"
            """ values (1, 'admin@example.org', '["openmates-admin"]'), (2, null, null);"""
            " create table of_the_new_server (x int)"
        )

    def _run(self, service: str, image: str, *command: str, options: list[str]) -> None:
        labels = [f"--label=com.docker.compose.{key}" for key in (f"project={self.project}", f"service={service}")]
        docker("run", "--detach", f"--name={self.project}-{service}", *labels, *options, image, *command)

    def psql(self, sql: str, check: bool = True) -> str:
        name, options = f"{self.project}-cms-database", ["--username=directus", "--dbname=directus"]
        return docker("exec", "--interactive", name, *PSQL, *options, given=sql, check=check)

    def cache(self, *words: str) -> str:
        return docker("exec", f"--env=REDISCLI_AUTH={self.password}", f"{self.project}-cache", "redis-cli", *words)

    def remove(self) -> None:
        found = docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={self.project}").split()
        if found:
            docker("rm", "--force", "--volumes", *found)


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[New]:
    found = New(tmp_path_factory.mktemp("new"))
    try:
        found.start()
        yield found
    finally:
        found.remove()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directories of an import, below a temporary one."""
    names = {"STAGING": tmp_path / "staging", "SECRET": tmp_path / "secret", "EXPORT": tmp_path / "staging/export"}
    names |= {"STOPPED": tmp_path / "staging/stopped.json", "VAULT_EXPORT": tmp_path / "secret/vault.jsonl"}
    names |= {"RECEIVED": tmp_path / "staging/received", "VAULT_RECEIVED": tmp_path / "received"}
    for module in (export, installer, server):
        for name, path in names.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, path)
    return tmp_path
