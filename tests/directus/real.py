"""A real Directus with its database and cache, from the lab's images, on this machine's Docker engine."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAMPLE = json.loads((ROOT / "inventories/directus/lab.json").read_text())
PROJECT = "openmates-directus-test"
ADMIN = "admin@lab.openmates.org"


def docker(*arguments: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess:
    """Run the Docker client; fails the test with its output."""
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout)
    if check and result.returncode:
        pytest.fail(f"docker {' '.join(arguments[:3])}: {result.stderr[-2000:] or result.stdout[-2000:]}")
    return result


def image(name: str) -> str:
    """The lab's image of that name: its own, or upstream's if that could be pulled."""
    own = f"openmates-lab/{name}:latest"
    if docker("image", "inspect", own, check=False).returncode == 0:
        return own
    return yaml.safe_load((ROOT / "lab/images.yml").read_text())["images"][name]["image"]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60, log: Callable[[], str] = str) -> object:
    """The condition's first true result. Fails after that many seconds, with its description and the end of the log."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s\n{log()[-4000:]}")
        time.sleep(0.1)


class Stack:
    """Directus, its database and its cache on a network of their own."""

    def __init__(self, folder: Path, name: str = PROJECT) -> None:
        self.name = name
        self.folder = folder
        self.image = image("directus")
        # Without `string:` before the file's name, Directus would take such a secret for a number.
        self.secrets = {
            key: f"number:{secrets.token_hex(20)}"
            for key in ("DB_PASSWORD", "SECRET", "ADMIN_PASSWORD", "REDIS_PASSWORD")
        }
        self.environment = {
            "PUBLIC_URL": "http://cms.openmates.test:8055",
            "DB_CLIENT": "pg",
            "DB_HOST": f"{name}-db",
            "DB_PORT": "5432",
            "DB_DATABASE": "directus",
            "DB_USER": "directus",
            "ADMIN_EMAIL": ADMIN,
            "REDIS_HOST": f"{name}-cache",
            "REDIS_PORT": "6379",
            "CACHE_ENABLED": "true",
            "CACHE_STORE": "redis",
            "CACHE_AUTO_PURGE": "true",
            "CACHE_SCHEMA_MAX_ITERATIONS": "2",
            "LOG_LEVEL": "info",
            "TELEMETRY": "false",
            "LOGIN_STALL_TIME": "0",  # otherwise each login takes half a second
            **{f"{key}_FILE": f"string:/run/secrets/{key}" for key in self.secrets},
        }
        self.url = ""

    @property
    def admin_password(self) -> str:
        return self.secrets["ADMIN_PASSWORD"]

    def write_secrets(self) -> None:
        """The secrets as files, as the stack's role writes them."""
        texts = {**self.secrets, "POSTGRES_PASSWORD": self.secrets["DB_PASSWORD"]}
        texts["dragonfly.flags"] = f"--requirepass={self.secrets['REDIS_PASSWORD']}\n"
        self.folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o444)
        self.folder.chmod(0o755)

    def run(self, name: str, of: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Start a container of the stack in the background; its address."""
        docker(
            *("run", "--detach", "--name", f"{self.name}-{name}", "--network", self.name),
            *("--volume", f"{self.folder}:/run/secrets:ro", *options, of, *command),
        )
        return docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{self.name}-{name}"
        ).stdout.strip()

    def environment_options(self, **more: str) -> list[str]:
        return [part for pair in {**self.environment, **more}.items() for part in ("--env", "=".join(pair))]

    def start_stores(self) -> None:
        """The network, the database and the cache."""
        self.remove()
        self.write_secrets()
        docker("network", "create", self.name)
        database = (
            "POSTGRES_USER=directus",
            "POSTGRES_DB=directus",
            "POSTGRES_PASSWORD_FILE=/run/secrets/POSTGRES_PASSWORD",
        )
        options = tuple(part for setting in database for part in ("--env", setting))
        self.run("db", image("cms-database"), options=options)
        limits = ("--proactor_threads=2", "--maxmemory=512mb", "--dir=/data", "--dbfilename=dump")
        limits += ("--nodf_snapshot_format", "--logtostderr", "--version_check=false")
        self.run("cache", image("cache"), "dragonfly", "--flagfile=/run/secrets/dragonfly.flags", *limits)
        self.wait_for_database()

    def wait_for_database(self) -> None:
        ready = ("exec", f"{self.name}-db", "pg_isready", "-h", "127.0.0.1", "-U", "directus", "-d", "directus")
        wait_until(lambda: docker(*ready, check=False).returncode == 0, "the database accepts connections", 180)

    def once(self, *command: str, options: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
        """Run a one-shot container of the Directus image to its end. It does not outlive a client that gave up."""
        try:
            return docker(
                *("run", "--rm", "--name", f"{self.name}-once", "--network", self.name),
                *("--volume", f"{self.folder}:/run/secrets:ro", *self.environment_options(**environment), *options),
                *(self.image, *command),
                check=False,
            )
        except subprocess.TimeoutExpired:
            docker("rm", "--force", "--volumes", f"{self.name}-once", check=False)
            raise

    def start_cms(self, **environment: str) -> None:
        """Directus itself, on a database that was set up before."""
        docker("rm", "--force", "--volumes", f"{self.name}-cms", check=False)
        options = ("--init", "--network-alias", "cms", *self.environment_options(**environment))
        self.url = f"http://{self.run('cms', self.image, 'node', 'cli.js', 'start', options=options)}:8055"
        wait_until(self.answers, "Directus answers", 300)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/server/ping", timeout=5) as answer:
            return answer.read() == b"pong"
        return False

    def sql(self, statement: str) -> str:
        """What a statement yields, straight from the database."""
        command = ("exec", "--interactive", f"{self.name}-db", "psql", "-U", "directus", "-d", "directus", "-Atqc")
        return docker(*command, statement).stdout.strip()

    def leave_schema_lock(self) -> None:
        """The lock that a Directus leaves in the cache if it is killed while it reads its schema."""
        ask = 'REDISCLI_AUTH="$(cat /run/secrets/REDIS_PASSWORD)" redis-cli set directus:lock:schemaCache--preparing 1'
        docker("exec", f"{self.name}-cache", "sh", "-c", ask)

    def users(self) -> list[str]:
        """The addresses of all users, straight from the database."""
        return self.sql("select email from directus_users order by 1").split()

    def remove(self) -> None:
        """Everything of this stack. Only what carries its name."""
        for name in ("cms", "cache", "db", "once"):
            docker("rm", "--force", "--volumes", f"{self.name}-{name}", check=False)
        docker("network", "rm", self.name, check=False)


class Api:
    """Directus's REST API as one user, for checks and for drift."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url, self.token = url, token

    def log_in(self, email: str, password: str) -> Api:
        data = self.call("POST", "/auth/login", {"email": email, "password": password})
        self.token = data["access_token"]
        return self

    def status(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """The HTTP status and the decoded answer."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def call(self, method: str, path: str, body: object = None) -> dict:
        """What is under `data`; fails the test for a refusal."""
        status, answer = self.status(method, path, body)
        if status >= 400:
            pytest.fail(f"{method} {path}: {status} {answer}")
        return answer["data"] if answer else None

    def search(self, collection: str, **query: object) -> list[dict]:
        return self.call("SEARCH", f"/{collection}", {"query": {"limit": -1, **query}})
