"""A sample backend with one item of each kind that the contract gate checks, and a project that provides all."""

from __future__ import annotations

import copy
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

from contract.project import Project
from contract.source import Tree
from contract.upstream import Upstream

FILES = {
    ".env.example": """
ADMIN_LOGIN=
ADMIN_WORD=
OPTION=
# HIDDEN_SWITCH=
SECRET__SOME_PROVIDER__API_KEY=
""",
    "backend/core/docker-compose.yml": "services: {}\n",
    "backend/core/docker-compose.selfhost.yml": """
x-image: &image
  image: ${REGISTRY:-ghcr.io/glowingkitty}/openmates-api:${TAG:-v1}
services:
  api:
    <<: *image
    env_file: ../../.env
    stop_grace_period: 15s
    environment: {MODE: "${MODE}", OPTION: "${OPTION:-}"}
    volumes: [logs:/app/logs, ../../config:/app_config]
  task-worker:
    <<: *image
    env_file: ../../.env
    command: celery worker --queues=mail,push
    environment: {QUEUES: mail}
  cms:
    image: directus/directus:11.5
    environment: {SKIP: "true", SECRET: "${CMS_SECRET}"}
  cms-setup:
    image: ${REGISTRY:-ghcr.io/glowingkitty}/openmates-cms-setup:${TAG:-v1}
    environment: {ADMIN_LOGIN: "${ADMIN_LOGIN}"}
  telescope:
    image: telescope:1
""",
    "backend/core/api/Dockerfile.selfhost": "FROM python:3\nENV FROM_IMAGE=yes\nRUN adduser worker\n",
    "backend/core/directus/Dockerfile.setup.selfhost": "FROM python:3\nCOPY schemas /usr/src/app/schemas\n",
    "backend/core/directus/Dockerfile": "FROM directus/directus:11\n",
    "backend/core/directus/setup/setup_schemas.py": 'import os\nCODE = os.getenv("FIRST_CODE") or generate_code()\n',
    "backend/core/directus/schemas/things.yml": "things:\n  type: collection\n  fields: {id: {}, name: {}}\n",
    "backend/core/vault/setup/policies.py": '''
POLICY = """
  # path "sys/commented" { capabilities = ["read"] }
  path "sys/mounts/transit" { capabilities = ["read", "delete"] }
  path "kv/data/providers/*" { capabilities = ["read"] }
"""
''',
    "backend/core/api/main.py": '''
import os
from fastapi import FastAPI

app = FastAPI()
LOGIN, WORD = os.getenv("ADMIN_LOGIN"), os.environ["ADMIN_WORD"]
LINKS = os.getenv("LINKS", "https://openmates.org")
TRACING = os.getenv("TRACING", "true")
LENS = os.getenv("LENS_URL", "http://telescope:5080")
SALT = os.getenv("SALT_SECRET") or "a-secret-for-development"
MODE = os.environ.get("MODE", "b")
FROM_IMAGE = os.getenv("FROM_IMAGE", "https://openmates.org")
HARMLESS = os.getenv("HARMLESS", "5")
OPTION = os.getenv("OPTION")
os.environ["SET_BY_CODE"] = "x"
SET_BY_CODE = os.environ["SET_BY_CODE"]
origins = os.getenv("ORIGINS", "")
ALLOWED = origins.split(",")


def links():
    explicit = os.getenv("FRONT", "")
    if explicit:
        return explicit
    return LINKS_OF_THEIRS


LINKS_OF_THEIRS = "https://openmates.org"


@app.get("/health")
async def old_health():
    """Moved."""
    return RedirectResponse(url="/v1/health", status_code=301)


@app.get("/v1/health")
@limiter.limit("60/minute")
async def health(request):
    return {}


app.mount("/metrics", metrics)
''',
    "backend/core/api/app/internal.py": """
from fastapi import APIRouter

router = APIRouter(prefix="/internal")


@router.post("/pay")
def pay():
    return None


nested = APIRouter()  # included below a prefix, which is not known here


@nested.get("/v1/health")
def health_of_something_else():
    return None
""",
    "backend/core/api/app/vault.py": """
PUSH_KEYS = "kv/data/providers/push"


class Vault:
    def __init__(self):
        self.mount = "transit"

    def check(self):
        self._vault_request("get", f"sys/mounts/{self.mount}")
        self._vault_request("post", f"{self.mount}/encrypt/{key}", {})
        get_secret("kv/data/providers/some", "api_key")
        store_secrets_at_path(PUSH_KEYS, {})
""",
    "backend/core/api/app/tasks.py": """
TASKS = [{"name": "mail", "module": "a.b"}, {"name": "push", "module": "a.c"}]
send.apply_async(queue="push")
""",
    "backend/shared/backup.py": """
BACKUP = "/shared/cache/backup.json"


def first[T](items: list[T]) -> T:
    return items[0]


def dump(data):
    with open(BACKUP, "w") as file:
        file.write(data)
""",
    "backend/core/api/tests/test_main.py": 'import os\nos.environ["ONLY_IN_TESTS"]\n',
    "frontend/never/read.py": 'import os\nos.environ["FRONTEND_ONLY"]\n',
}

COMPOSE = """
services:
  api:
    image: ghcr.io/glowingkitty/openmates-api:v1
    user: "1000:1000"
    cap_drop: [ALL]
    read_only: true
    stop_grace_period: 30s
    tmpfs: [/tmp]
    command: [uvicorn, "backend.core.api.main:app"]
    environment:
      ADMIN_LOGIN: a@example.org
      LINKS: https://chat.example.org
      FRONT: https://chat.example.org
      TRACING: "false"
      LENS_URL: ""
      MODE: a
      ORIGINS: https://chat.example.org,https://www.example.org
    volumes: [api-logs:/app/logs, shared-cache:/shared/cache]
    healthcheck: {test: [CMD, curl, "http://127.0.0.1:8000/v1/health"]}
  task-worker: &worker
    image: ghcr.io/glowingkitty/openmates-api:v1
    command: [celery, -A, backend.core.api.app.tasks, worker]
    environment:
      ADMIN_LOGIN: a@example.org
      LINKS: https://chat.example.org
      FRONT: https://chat.example.org
      TRACING: "false"
      LENS_URL: ""
      MODE: a
      ORIGINS: https://chat.example.org,https://www.example.org
      CELERY_QUEUES: mail,push
  task-scheduler:
    <<: *worker
    command: [celery, -A, backend.core.api.app.tasks, beat]
  cms:
    image: directus/directus:11.17
    environment: {SKIP: "true", SECRET_FILE: /run/secrets/SECRET}
  cms-setup:
    image: ghcr.io/glowingkitty/openmates-cms-setup:v1
    user: "1000:1000"
    cap_drop: [ALL]
    command: [python, setup_schemas.py]
    environment: {ADMIN_LOGIN: a@example.org}
"""

CADDYFILE = """
	@hidden path /internal /metrics /internal/* /metrics/*
	reverse_proxy 127.0.0.1:8000 {
		health_uri /v1/health
		health_headers {
			X-Forwarded-For 192.0.2.1
		}
	}
"""

POLICY = """
path "sys/mounts/transit" {
  capabilities = ["read"]
}
path "transit/encrypt/*" {
  capabilities = ["update"]
}
path "kv/data/providers/*" {
  capabilities = ["read"]
}
path "kv/data/providers/push" {
  capabilities = ["create", "read", "update"]
}
"""

SECRETS = {
    **{name: ["ADMIN_WORD", "SALT_SECRET"] for name in ("api", "task-worker", "task-scheduler")},
    "cms": ["SECRET"],
    "cms-setup": ["FIRST_CODE"],
}


def upstream(**changed: str) -> Upstream:
    """The backend, with other or more files: upstream(**{path: text})."""
    files = {**FILES, **changed}
    wanted = {path: text for path, text in files.items() if not path.startswith("frontend/")}
    return Upstream(Tree("sample", sorted(wanted), lambda path: wanted[path]))


def project(
    compose: str = COMPOSE, caddyfile: str = CADDYFILE, policy: str = POLICY, secrets: dict | None = None
) -> Project:
    kind = {"files": {"docker-compose.yml": compose}, "secrets": secrets or SECRETS, "caddyfile": caddyfile}
    kinds = {name: copy.deepcopy(kind) for name in ("prod", "dev")}
    # What the project gives when it is set to use their image for cms-setup.
    kinds["prod with OpenMates' cms-setup"] = {**kind, "files": {"docker-compose.yml": COMPOSE}}
    made = Project(Path("/nowhere"), kinds)
    made.__dict__["policies"] = {"roles/vault/files/policies/api-service.hcl": policy}
    return made


def write(folder: Path, prefix: str = "") -> Path:
    for path, text in FILES.items():
        target = folder / prefix / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder / prefix


def tar(folder: Path, prefix: str) -> Path:
    path = folder / "release.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in FILES.items():
            entry = tarfile.TarInfo(f"{prefix}{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def zipped(folder: Path, prefix: str) -> Path:
    path = folder / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"{prefix}{name}", text)
    return path


def bare(folder: Path) -> Path:
    """A bare repository whose branch `later` lacks a file that the tag v1 has."""
    work, repository = write(folder / "work"), folder / "bare.git"
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(work), *identity, *arguments], check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "-m", "one")
    git("tag", "v1")
    git("checkout", "-b", "later")
    git("rm", "backend/core/api/app/internal.py")
    git("commit", "-m", "two")
    git("checkout", "main")
    subprocess.run(["git", "clone", "--bare", str(work), str(repository)], check=True, capture_output=True)
    return repository
