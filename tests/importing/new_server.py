"""Database and cache of a server that this project has provisioned, without data."""

from __future__ import annotations

import secrets
from pathlib import Path

from installer_server import IMAGE, PSQL, docker, wait_until

CACHE_IMAGE = "openmates-lab/cache:latest"


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
