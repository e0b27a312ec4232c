"""A dump of an older major version of PostgreSQL, restored into the one of the catalogue.

The older server is one that this machine has installed, as Debian 12 brings it; without one the tests are skipped.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TABLES
from openmates_backup import postgres_restore
from openmates_backup.config import Config
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases, session
from openmates_backup.restore import Request, Restore
from openmates_backup.restore_parts import DATABASE, Part
from real import docker, image, wait_until

INSTALLED = {int(path.name): path / "bin" for path in Path("/usr/lib/postgresql").glob("[0-9]*")}
OWNER = "nobody"  # PostgreSQL refuses root


class Installed(Containers):
    """A server of this machine in the place of a container."""

    def __init__(self, programs: Path, folder: Path) -> None:
        super().__init__("older")
        self.programs, self.folder = programs, folder

    def inside(self, service: str, *command: str) -> list[str]:
        program, *options = command
        return ["env", f"PGHOST={self.folder}", str(self.programs / program), *options]

    def environment(self, service: str, name: str, default: str = "") -> str:
        return "directus"

    def run(self, program: str, *options: str) -> None:
        subprocess.run([self.programs / program, *options], user=OWNER, cwd="/", check=True, capture_output=True)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    newest = int(re.search(r"postgresql/(\d+)/bin", docker("image", "inspect", image("cms-database")).stdout)[1])
    found = [major for major in INSTALLED if major < newest]
    if not found:
        pytest.skip(f"this machine has no PostgreSQL older than {newest}")
    folder = Path("/tmp") / f"openmates-older-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    subprocess.run(["chown", OWNER, folder], check=True)
    server = Installed(INSTALLED[max(found)], folder)
    data = str(folder / "data")
    try:
        server.run("initdb", f"--pgdata={data}", "--username=directus", "--encoding=UTF8", "--locale=C.UTF-8")
        server.run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={folder}/log", "-o", f"-k {folder} -h ''")
        yield server
    finally:
        subprocess.run(
            [server.programs / "pg_ctl", "stop", "-m", "immediate", "-D", data], user=OWNER, cwd="/", check=False
        )
        subprocess.run(["rm", "-r", folder], check=True)


@pytest.fixture(scope="module")
def newer() -> Iterator[Databases]:
    project = f"backup-major-{secrets.token_hex(4)}"
    name = f"{project}-cms-database-1"
    labels = [f"--label=com.docker.compose.{key}" for key in (f"project={project}", "service=cms-database")]
    environment = ["--env=POSTGRES_USER=directus", "--env=POSTGRES_PASSWORD=x"]
    docker("run", "--detach", f"--name={name}", *labels, *environment, image("cms-database"))
    try:
        ask = ("exec", name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "directus")
        wait_until(lambda: docker(*ask, check=False).returncode == 0, "the database is ready")
        yield Databases(Containers(project), "cms-database")
    finally:
        docker("rm", "--force", "--volumes", name)


def test_every_table_comes_back_in_the_newer_server(older: Installed, newer: Databases, tmp_path: Path) -> None:
    before = Databases(older, "cms-database")
    with session(before.program("psql"), "template1") as opened:
        opened.ask("create database directus")
        opened.ask("create role reader login password 'kept'")
    with session(before.program("psql"), "directus") as opened:
        for statement in ["set search_path = public", *filter(str.strip, TABLES.split(";"))]:
            opened.ask(statement.strip())
    about = before.back_up(["directus"], tmp_path / "dump")
    begun = time.monotonic()
    postgres_restore.restore_roles(newer, (tmp_path / "dump/globals.sql").read_text())
    found = postgres_restore.restore(newer, "directus", about["databases"]["directus"], tmp_path / "dump/directus.dump")
    print(f"{about['major']} into {postgres_restore.major(newer)}, {time.monotonic() - begun:.1f} s: {found}")
    assert about["major"] < postgres_restore.major(newer)
    assert found == {"tables": 3, "rows": 503}
    with session(newer.program("psql"), "directus") as opened:
        assert opened.one("select count(*) from pg_roles where rolname = 'reader'") == "1"
        assert opened.one("select name || paid from public.customers where id = 3") == "name 31.00000000000000000000"


@pytest.mark.parametrize(("there", "refused"), [(-1, False), (0, False), (1, True)])
def test_only_an_older_server_is_refused(newer: Databases, tmp_path: Path, there: int, refused: bool) -> None:
    config = Config(
        **{"repository": "/none", "host": "prod1", "environment": "prod", "keep": {}, "volumes": {}},
        **{"databases": {}, "project": newer.containers.project, "state": tmp_path},
    )
    part = Part("cms-database", DATABASE, {"major": postgres_restore.major(newer) + there})
    problems = list(Restore(config, print)._majors({part.name: part}, {part.name: []}, Request()))
    assert bool(problems) == refused
    if refused:
        assert "is older and cannot read it" in problems[0]
