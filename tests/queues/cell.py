"""A real cache and a real Celery worker, from the lab's images, on this machine's Docker engine."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "openmates-queues-test"
API, CACHE = "openmates-lab/api:latest", "openmates-lab/cache:latest"

# Settings of upstream's workers that matter here: a message is acknowledged after its task, one is taken per process.
APPLICATION = """
import os, time
from celery import Celery, signals
url = f"redis://default:{os.environ['DRAGONFLY_PASSWORD']}@{os.environ['DRAGONFLY_URL']}/0"
app = Celery("test", broker=url, backend=url)
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, accept_content=["json"],
    result_expires=3600,
)

@app.task(name="sleep", ignore_result=True)
def sleep(seconds):
    time.sleep(seconds)

@signals.worker_process_init.connect
def initialise(**_):
    time.sleep(float(os.environ["INITIALISATION"]))
"""
# Runs ready.py as openmates-ready does, and adds its cost.
MEASURED = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(["python3", "/openmates/ready.py", *sys.argv[1:]], capture_output=True, text=True, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
answer = json.loads(done.stdout)
cost = {"wall": time.monotonic() - began, "cpu": used.ru_utime + used.ru_stime}
print(json.dumps({"parts": {p["name"]: [p["ok"], p["detail"]] for p in answer["parts"]}, **cost}))
"""


def docker(*arguments: str, check: bool = True) -> str:
    """Standard output of the Docker client; fails the test with its error."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120)
    if check and done.returncode:
        pytest.fail(f"docker {' '.join(arguments[:3])}: {done.stderr[-2000:]}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> object:
    """The condition's first true result. Fails after that many seconds, with the description of the condition."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


class Cell:
    """A network with a cache, a worker, and the probe."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.password = folder, secrets.token_hex(12)
        (folder / "application.py").write_text(APPLICATION)
        folder.chmod(0o755)

    def environment(self, password: str = "") -> list[str]:
        return ["--env", f"DRAGONFLY_PASSWORD={password or self.password}", "--env", f"DRAGONFLY_URL={NAME}-cache:6379"]

    def start(self) -> None:
        self.remove()
        docker("network", "create", NAME)
        cache = ["--name", f"{NAME}-cache", "--network", NAME, "--entrypoint", "valkey-server"]
        docker("run", "--detach", *cache, CACHE, "--requirepass", self.password, "--save", "")
        wait_until(lambda: "PONG" in self.cache("ping"), "the cache answers")

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", f"{NAME}-cache", f"{NAME}-worker", check=False)
        docker("network", "rm", NAME, check=False)

    def cache(self, *command: str) -> str:
        client = ["valkey-cli", "--no-auth-warning", "-a", self.password]
        return docker("exec", f"{NAME}-cache", *client, *command, check=False).strip()

    def stored(self) -> set[str]:
        return set(self.cache("keys", "*").split())

    @contextlib.contextmanager
    def worker(self, initialisation: float = 0) -> Iterator[None]:
        """A worker of two processes for the queues email and push, whose processes need that long to start."""
        options = ["--name", f"{NAME}-worker", "--network", NAME, "--env", f"INITIALISATION={initialisation}"]
        options += [*self.environment(), "--volume", f"{self.folder}:/w:ro", "--workdir", "/w", "--user", "1000:1000"]
        command = ["celery", "-A", "application", "worker", "--concurrency=2", "--queues=email,push", "--loglevel=info"]
        self.cache("flushall")
        docker("run", "--detach", *options, API, *command)
        try:
            wait_until(lambda: " ready." in self.log(), "the worker is ready")
            yield
        finally:
            docker("rm", "--force", f"{NAME}-worker")

    def log(self) -> str:
        return subprocess.run(["docker", "logs", f"{NAME}-worker"], capture_output=True, text=True).stderr

    def send(self, seconds: float, times: int) -> None:
        """Give the worker that many tasks that sleep."""
        code = f"from application import *\nfor _ in range({times}): app.send_task('sleep', [{seconds}], queue='email')"
        docker("exec", f"{NAME}-worker", "python3", "-c", code)

    def running(self) -> int:
        """How many tasks the worker has taken and not acknowledged."""
        return int(self.cache("hlen", "unacked") or 0)

    def probe(self, *arguments: str, password: str = "") -> dict:
        """The result of ready.py: its parts by name, and its cost."""
        options = [
            "--network",
            NAME,
            *self.environment(password),
            "--volume",
            f"{ROOT}/files/compose/config/bin:/openmates:ro",
        ]
        return json.loads(docker("run", "--rm", *options, API, "python3", "-c", MEASURED, *arguments))
