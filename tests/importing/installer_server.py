"""A server as OpenMates' own installer makes it, on this machine's Docker engine.

PostgreSQL 13 and HashiCorp Vault, on file storage, are genuine. Directus, the api and the workers are idle containers
of the same names: nothing of them is read but the files that they mount.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = ROOT / ".lab/postgres13/native"
VAULT = ROOT / ".cache/genuine/vault-file"
IMAGE = "openmates-lab/cms-database:latest"  # with psql and pg_dump, which the archive of PostgreSQL 13 lacks
VAULT_IMAGE = "openmates-import-drill/vault"
#: Upstream's backend/core/vault/config/vault.hcl, with a socket that a test reaches.
VAULT_HCL = """
listener "tcp" {
  address = "0.0.0.0:8200"
  tls_disable = true
}
storage "file" {
  path = "/vault/file"
}
api_addr = "http://0.0.0.0:8200"
ui = false
disable_mlock = true
"""
SECRETS = {"providers/stripe": {"api_key": "canary-stripe-key"}, "providers/openai/azure": {"api_key": "canary-azure"}}
KEYS = ("email-hmac-key", "newsletter-emails")
USERS = 30
PSQL = ("psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1")
SCHEMA = """
create table directus_migrations (version varchar(255) primary key, name varchar(255));
insert into directus_migrations values ('20201028A', 'Remove Collection Foreign Keys');
create table directus_collections (collection varchar(64) primary key);
insert into directus_collections values ('chats');
create table directus_users (id uuid primary key, email text, vault_key_id varchar(255), encrypted_email_address text,
  balance real, seen timestamptz default now());
create table chats (id serial primary key, owner uuid references directus_users(id), content jsonb, raw bytea);
"""


def docker(*arguments: str, given: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments[:4])}: {done.stderr[-1500:]}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def context_of(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


class InstallerServer:
    """The containers, which have their data below a directory."""

    def __init__(self, folder: Path, project: str) -> None:
        self.folder, self.project = folder, project
        self.compose = folder / "openmates/backend/core"

    def name(self, service: str) -> str:
        return f"{self.project}-{service}"

    # ------------------------------------------------------------ making it

    def start(self) -> None:
        for path in ("data/vault-setup", "data/vault", "data/uploads/a folder", "data/logs", "config"):
            (self.folder / path).mkdir(parents=True, mode=0o755)
        self.compose.mkdir(parents=True)
        (self.folder / "openmates/.env").write_text(
            "DATABASE_NAME=directus\nDATABASE_PASSWORD=canary-database\nSIGNUP_LIMIT=500\n"
            "SECRET__STRIPE__API_KEY=IMPORTED_TO_VAULT\n"
        )
        (self.folder / "config/vault.hcl").write_text(VAULT_HCL)
        (self.folder / "data/uploads/a folder/cat.jpg").write_bytes(b"\xff\xd8" + bytes(3_000_000))
        (self.folder / "data/logs/audit-compliance.log").write_text("of the old server\n")
        self._image()
        self._postgres()
        self._vault()
        logs, uploads = self._mount("data/logs", "/app/logs"), self._mount("data/uploads", "/directus/uploads")
        for service, mounts in {"cms": [uploads], "api": [logs], "task-worker": [logs], "cache": []}.items():
            self._run(service, IMAGE, "sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait", options=mounts)
        self.client_keys = self._fill_vault()
        self.fill()

    def _run(self, service: str, image: str, *command: str, options: list[str] = ()) -> None:
        labels = {"project": self.project, "service": service, "project.working_dir": str(self.compose)}
        given = [f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        docker(
            *("run", "--detach", f"--name={self.name(service)}", *given, *options),
            *(f"--entrypoint={command[0]}", image, *command[1:]),
        )

    def _mount(self, path: str, inside: str) -> str:
        return f"--volume={self.folder / path}:{inside}"

    @staticmethod
    def _image() -> None:
        recipe = f"FROM {IMAGE}\nCOPY vault /usr/local/bin/vault\n"
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(VAULT, Path(folder) / "vault")
            (Path(folder) / "Dockerfile").write_text(recipe)
            docker("build", "--quiet", f"--tag={VAULT_IMAGE}", folder)

    def _postgres(self) -> None:
        script = (
            "mkdir -p /data /var/run/postgresql; chown postgres /data /var/run/postgresql; cd /; "
            "su postgres -s /bin/sh -c '/opt/13/bin/initdb -D /data -U directus -E UTF8 --locale=C.UTF-8 >/dev/null"
            ' && exec /opt/13/bin/postgres -D /data -k /var/run/postgresql -h ""\''
        )
        environment = [
            "--env=POSTGRES_USER=directus",
            "--env=POSTGRES_DB=directus",
            "--env=POSTGRES_PASSWORD=canary-database",
        ]
        self._run("cms-database", IMAGE, "sh", "-c", script, options=[f"--volume={POSTGRES}:/opt/13:ro", *environment])
        wait_until(lambda: self.psql("select 1", "template1", check=False), "PostgreSQL 13 answers")
        self.psql("create database directus", "template1")

    def _vault(self) -> None:
        mounts = [self._mount("data/vault", "/vault/file"), self._mount("config", "/vault/config")]
        options = ["--cap-add=IPC_LOCK", "--env=VAULT_ADDR=http://127.0.0.1:8200", *mounts]
        self._run("vault", VAULT_IMAGE, "vault", "server", "-config=/vault/config/vault.hcl", options=options)
        wait_until(lambda: "Sealed" in self.vault("status", check=False), "Vault answers")
        made = json.loads(self.vault("operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"))
        key, self.root = made["unseal_keys_hex"][0], made["root_token"]
        (self.folder / "data/vault-setup/unseal.key").write_text(key)
        self._run("vault-setup", IMAGE, "true", options=[self._mount("data/vault-setup", "/app/data")])
        self.vault("operator", "unseal", key)
        self.vault("secrets", "enable", "transit")
        self.vault("secrets", "enable", "-version=2", "kv")

    def _fill_vault(self) -> dict[str, str]:
        """The keys of the users, each with a ciphertext."""
        script = "".join(
            f"wait_kv; vault kv put -mount=kv {path} - <<'E' >/dev/null\n{json.dumps(fields)}\nE\n"
            for path, fields in SECRETS.items()
        )
        script = (
            f"wait_kv() {{ until vault kv list -mount=kv / 2>&1 | grep -qv Upgrading; do sleep 0.2; done; }}\n{script}"
        )
        script += "".join(f"vault write -f transit/keys/{name} >/dev/null\n" for name in KEYS)
        users = [f"user_{number:032x}" for number in range(USERS)]
        text = base64.b64encode(b"someone@example.org").decode()
        for user in users:
            script += f"vault write -f transit/keys/{user} derived=true >/dev/null\n"
            asked = f"plaintext={text} context={context_of(user)}"
            script += f"vault write -field=ciphertext transit/encrypt/{user} {asked}; echo\n"
        found = self.inside("vault", "sh", "-eu", given=script, environment={"VAULT_TOKEN": self.root})
        return dict(zip(users, found.split(), strict=True))

    def fill(self, schema: str = SCHEMA, rows: bool = True) -> None:
        """The tables, and rows whose ciphertexts Vault opens."""
        self.psql(schema)
        statements = [
            f"insert into directus_users (id, email, vault_key_id, encrypted_email_address) values (gen_random_uuid(),"
            f" '{number}@example.org', '{key}', '{ciphertext}');"
            for number, (key, ciphertext) in enumerate(self.client_keys.items())
        ]
        statements.append(
            "insert into chats (owner, content, raw) select id, '{\"a\": [1, 2.50, null]}', decode('00ff', 'hex')"
            " from directus_users, generate_series(1, 40);"
        )
        if rows:
            self.psql("\n".join(statements))

    # ------------------------------------------------------------ asking it

    def inside(
        self, service: str, *command: str, given: str = "", environment: dict | None = None, check: bool = True
    ) -> str:
        options = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return docker("exec", "--interactive", *options, self.name(service), *command, given=given, check=check)

    def psql(self, sql: str, database: str = "directus", check: bool = True) -> str:
        options = ["--username=directus", f"--dbname={database}"]
        return self.inside("cms-database", *PSQL, *options, given=sql, check=check)

    def vault(self, *arguments: str, check: bool = True) -> str:
        token = {"VAULT_TOKEN": self.root} if hasattr(self, "root") else {}
        return self.inside("vault", "vault", *arguments, environment=token, check=check)

    def running(self) -> set[str]:
        shown = docker("ps", f"--filter=label=com.docker.compose.project={self.project}", "--format={{.Names}}")
        return {name.removeprefix(f"{self.project}-") for name in shown.split()}

    def docker_start(self, container: str) -> None:
        docker("start", container)

    # ------------------------------------------------------------ removing it

    def remove(self) -> None:
        found = docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={self.project}").split()
        if found:
            docker("rm", "--force", "--volumes", *found)
        docker("rmi", "--force", VAULT_IMAGE, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
