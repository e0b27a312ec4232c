"""A server's database, cache and Vault, and its directories below a temporary one; the genuine restic of Debian 13."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

ROOT = Path(__file__).parents[2]
RESTIC = ROOT / ".lab/restic"  # lab/test_tools.sh restic puts it there
sys.path[:0] = [str(ROOT / "roles/backup/files"), str(ROOT / "tests/directus"), str(ROOT / "tests/integration")]

from openmates_backup import restic, run  # noqa: E402
from openmates_backup.config import Config  # noqa: E402
from real import docker, image, wait_until  # noqa: E402
from vault_site import Bao  # noqa: E402

POLICY = (ROOT / "roles/vault/files/policies/openmates-backup.hcl").read_text()
TABLES = """
create table customers (id int primary key, name text, paid numeric, at timestamptz default now(), raw bytea);
insert into customers select i, 'name ' || i, i / 3.0, '2026-11-27 03:00+02', decode('00ff', 'hex')
    from generate_series(1, 500) i;
create schema "odd.schema"; create table "odd.schema"."A table" (x text);
insert into "odd.schema"."A table" values ('one'), (null), ('one');
create table nothing_in_it ();
"""


class Server:
    """What a backup finds on a host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, f"backup-test-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(16)
        self.state = folder / "state"
        for path in (self.state, folder / "stack/secrets", folder / "run", self.volume("cms-uploads")):
            path.mkdir(parents=True)
        (folder / "stack/docker-compose.yml").write_text("services: {}\n")
        (folder / "stack/secrets/PASSWORD").write_text("kept")
        (self.volume("cms-uploads") / "cat.jpg").write_bytes(b"\xff\xd8" + bytes(5000))
        self.containers: list[str] = []
        self.bao = Bao(folder / "vault")
        # As on a server: a copy elsewhere would not come up with an audit device that it cannot open.
        own = self.bao.config.read_text().replace('"file" "log"', '"file" "stdout"')
        self.bao.config.write_text(own.replace(str(self.bao.audit), "stdout"))

    def volume(self, name: str) -> Path:
        return self.folder / f"docker/volumes/{self.project}-{name}/_data"

    def start(self) -> None:
        secret = self.folder / "cache-secret"
        secret.mkdir()
        (secret / "DRAGONFLY_PASSWORD").write_text(self.password)
        self.volume("cache-data").mkdir(parents=True)
        self.volume("cache-data").chmod(0o777)
        self._container("cms-database", "--env=POSTGRES_USER=directus", "--env=POSTGRES_PASSWORD=x")
        self._container(
            "cache",
            f"--volume={self.volume('cache-data')}:/data",
            f"--volume={secret}:/run/secrets:ro",
            command=(
                *("dragonfly", f"--requirepass={self.password}", "--dir=/data", "--dbfilename=dump"),
                *("--nodf_snapshot_format", "--logtostderr", "--proactor_threads=2", "--maxmemory=512mb"),
                "--version_check=false",
            ),
        )
        self.bao.start()
        self.vault_login = self._set_up_vault()
        ready = ("pg_isready", "-q", "-h", "127.0.0.1", "-U", "directus")
        wait_until(lambda: self.inside("cms-database", *ready, check=False).returncode == 0, "the database is ready")
        self.sql(TABLES)
        wait_until(lambda: self.cache("ping", check=False) == "PONG", "the cache is ready")
        self.cache("set", "order:1", "pending")

    def _container(self, service: str, *options: str, command: tuple[str, ...] = ()) -> None:
        name = f"{self.project}-{service}-1"
        labels = {"project": self.project, "service": service}
        docker(
            *("run", "--detach", f"--name={name}", "--network=bridge"),
            *(f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()),
            *options,
            *(image(service), *command),
        )
        self.containers.append(name)

    def _set_up_vault(self) -> dict[str, str]:
        """Initialise it, and make the login of the backup as the role vault does."""
        client = hvac.Client(self.bao.url)
        keys = client.sys.initialize(1, 1)
        self.shares, self.root_token = keys["keys"], keys["root_token"]
        client.sys.submit_unseal_key(keys["keys"][0])
        wait_until(lambda: client.sys.read_health_status().status_code == 200, "Vault is active")
        client.token = keys["root_token"]
        client.sys.enable_secrets_engine("transit")
        client.sys.enable_auth_method("approle")
        client.sys.create_or_update_policy("openmates-backup", POLICY)
        approle = "/v1/auth/approle/role/openmates-backup"
        client.adapter.post(approle, json={"token_policies": ["openmates-backup"], "token_no_default_policy": True})
        role_id = client.adapter.get(f"{approle}/role-id")["data"]["role_id"]
        return {"role_id": role_id, "secret_id": client.adapter.post(f"{approle}/secret-id")["data"]["secret_id"]}

    def inside(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        return docker("exec", f"{self.project}-{service}-1", *command, check=check)

    def sql(self, text: str) -> str:
        return self.inside("cms-database", *("psql", "-U", "directus", "-qAtv", "ON_ERROR_STOP=1", "-c", text)).stdout

    def cache(self, *words: str, check: bool = True) -> str:
        client = 'REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) exec redis-cli "$@"'
        return self.inside("cache", "sh", "-c", client, "sh", *words, check=check).stdout.strip()

    @property
    def config(self) -> Config:
        return Config(
            repository=str(self.folder / "repository"),
            host="server1",
            environment="prod",
            keep={"daily": 7, "weekly": 4, "monthly": 6},
            volumes={
                "postgres-data": {"service": "cms-database", "rule": "dump"},
                "vault-data": {"service": "vault", "rule": "snapshot"},
                "cache-data": {"service": "cache", "rule": "snapshot"},
                "cms-uploads": {"service": "cms", "rule": "files"},
                "promtail-data": {"service": "promtail", "rule": "never"},
            },
            databases={"cms-database": ["directus"]},
            project=self.project,
            stack=self.folder / "stack",
            docker_root=self.folder / "docker",
            state=self.state,
            metrics=self.state / "metrics",
            rollout_lock=self.folder / "run/rollout.lock",
            vault_address=self.bao.url.removeprefix("http://"),
            run_wait=1,
            ready_wait=0.3,
            lock_wait=1,
            give_way=10,
            look_every=0.1,
        )

    def remove(self) -> None:
        self.bao.stop()
        if self.containers:
            docker("rm", "--force", "--volumes", *self.containers, check=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests: what they change of it, they change back."""
    made = Server(tmp_path_factory.mktemp("server"))
    try:
        made.start()
        yield made
    finally:
        made.remove()


@dataclasses.dataclass
class Backup:
    """Backups of the server into a repository of one test."""

    server: Server
    config: Config
    secrets: dict[str, str]
    folder: Path

    def provide(self) -> None:
        """The credentials, as systemd hands them to the unit."""
        (self.folder / run.LOGIN).write_text(json.dumps(self.secrets))
        (self.folder / "openmates-vault-backup").write_text(json.dumps(self.server.vault_login))

    def make(self, **changes: object) -> dict:
        self.provide()
        return run.back_up(dataclasses.replace(self.config, **changes), lambda _: None)

    def restic(self) -> restic.Restic:
        return restic.Restic(self.config, self.secrets)

    def last(self) -> dict:
        return json.loads((self.config.directory / "last.json").read_text())

    def metrics(self) -> dict[str, float]:
        lines = (self.config.metrics / "openmates_backup.prom").read_text().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("openmates_backup_"): float(value) for name, value in pairs}


@pytest.fixture
def backup(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backup:
    """Nothing was backed up yet."""
    assert RESTIC.exists(), "lab/test_tools.sh restic provides it"
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("PATH", f"{RESTIC.parent}:{os.environ['PATH']}")
    config = dataclasses.replace(
        server.config, repository=str(tmp_path / "repository"), state=state, metrics=state / "metrics"
    )
    return Backup(server, config, {"password": secrets.token_hex(20)}, credentials)


@pytest.fixture
def now() -> float:
    return time.time()
