"""The health checks that are separate scripts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

BIN = Path(__file__).parents[2] / "files/compose/config/bin"
spec = importlib.util.spec_from_file_location("worker_alive", BIN / "worker-alive.py")
worker_alive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker_alive)


class Api(BaseHTTPRequestHandler):
    """Answers by its path, and records the requests."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("X-Forwarded-For")))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def http_alive(port: int, path: str) -> int:
    return subprocess.run(["bash", BIN / "http-alive.sh", str(port), path], capture_output=True, check=False).returncode


@pytest.mark.parametrize(("status", "alive"), [(200, True), (204, False), (301, False), (429, False), (503, False)])
def test_only_200_is_alive(port: int, status: int, alive: bool) -> None:
    assert (http_alive(port, f"/v1/{status}") == 0) is alive
    assert Api.seen[-1] == (f"/v1/{status}", "192.0.2.2"), "its own address for the api's rate limit"


def test_nothing_there_is_not_alive(port: int) -> None:
    assert http_alive(1, "/v1/200") != 0


@pytest.mark.parametrize(("status", "alive"), [(200, True), (301, False), (503, False)])
def test_the_check_of_an_app_runs_as_it_is_written(port: int, status: int, alive: bool) -> None:
    """Extracted from the template, so that the health check runs with its own options."""
    template = (BIN.parents[1] / "docker-compose.yml.j2").read_text()
    option, _, rest = (
        template.partition("# an App's image has Python")[2].partition("- python3\n")[2].partition("- |\n")
    )
    program = textwrap.dedent(rest.partition("    mem_limit")[0])
    program = program.replace("8000", str(port)).replace("GET /health", f"GET /{status}")
    done = subprocess.run([sys.executable, option.split()[-1], program], capture_output=True, text=True, check=False)
    assert done.stderr == "" and (done.returncode == 0) is alive


def process(proc: Path, pid: int, parent: int, state: str, age: float, name: str = "celery") -> None:
    started = int((1000.0 - age) * os.sysconf("SC_CLK_TCK"))
    (proc / str(pid)).mkdir()
    fields = [state, str(parent), *["0"] * 17, str(started), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


@pytest.mark.parametrize(
    ("children", "settled"),
    [
        ([(7, 1, "S", 900)], [7]),
        ([(7, 1, "S", 3), (8, 1, "R", 60)], [8]),
        ([(7, 1, "S", 3), (8, 1, "S", 4)], []),  # one after another dies at its start
        ([(7, 1, "Z", 900)], []),  # dead, and not yet fetched by its parent
        ([(7, 5, "S", 900)], []),  # of another process, such as a shell in the container
        ([], []),
    ],
)
def test_a_pool_is_alive_when_a_process_of_it_stays_alive(tmp_path: Path, children: list, settled: list[int]) -> None:
    (tmp_path / "uptime").write_text("1000.00 1.00\n")
    process(tmp_path, 1, 0, "S", 950)
    for number, (pid, parent, state, age) in enumerate(children):
        process(tmp_path, pid, parent, state, age, name=f"a (name) {number}")
    assert worker_alive.settled_children(tmp_path) == settled


def test_the_scheduler_is_alive_by_a_schedule_of_this_container(tmp_path: Path) -> None:
    """The script with a folder and a start of the test's own: /dev is as old as this machine."""
    script = (BIN / "scheduler-alive.sh").read_text()
    start = tmp_path / "start"
    folder = tmp_path / "data"
    folder.mkdir()
    start.touch()
    script = script.replace("/celerybeat-data", str(folder)).replace("-newer /dev", f"-newer {start}")

    def alive() -> bool:
        return subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode == 0

    now = start.stat().st_mtime
    schedule = folder / "celerybeat-schedule"
    assert not alive(), "there is none"
    schedule.touch()
    os.utime(schedule, (now - 5, now - 5))
    assert not alive(), "an earlier container's"
    os.utime(schedule, (now + 1, now + 1))
    assert alive()
    os.utime(start, (now - 3600, now - 3600))
    os.utime(schedule, (now - 700, now - 700))
    assert not alive(), "beat has not saved it for more than ten minutes"


def test_the_worker_check_imports_nothing_of_the_application() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='x'); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, BIN / "worker-alive.py"], capture_output=True, text=True, check=True
    )
    assert "celery" not in done.stdout and "backend" not in done.stdout and "kombu" not in done.stdout
