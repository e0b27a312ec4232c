"""The database's first start, interrupted at any moment by a kill of its container, with start.sh and without it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import ROOT, docker, image, wait_until

SCRIPT = ROOT / "files/compose/config/cms-database/start.sh"
DATA = "/var/lib/postgresql/data"
#: What is on disk when the container is killed. Each is a state that the set-up passes through, in this order.
MOMENTS = {
    "before anything": "true",
    "the directory is made": f"test -d {DATA}/.first-start",
    "initdb has begun": f"test -s {DATA}/.first-start/data/PG_VERSION",
    "there is a control file": f"test -s {DATA}/.first-start/data/global/pg_control",
    "the server for the set-up runs": f"test -e {DATA}/.first-start/data/postmaster.pid",
    "a database is being made": f"ls {DATA}/.first-start/data/base/16384/PG_VERSION",
    "the set-up is complete": f"test -e {DATA}/.first-start/complete",
    "it moves into place": f"test -d {DATA}/base -o -d {DATA}/global",
    "it is in place": f"test -s {DATA}/PG_VERSION",
}


class Database:
    """A container like cms-database's on a volume that outlives it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        self.password = "Mf9sLc3JgH6yDe8Ua1"
        (folder / "start.sh").write_text(SCRIPT.read_text())
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o755)

    @property
    def password(self) -> str:
        return (self.folder / "POSTGRES_PASSWORD").read_text()

    @password.setter
    def password(self, text: str) -> None:
        """Another file in place of the former one, as the role stack writes secrets."""
        draft = self.folder / "draft"
        draft.write_text(text)
        draft.chmod(0o444)
        draft.rename(self.folder / "POSTGRES_PASSWORD")

    def start(self, *entrypoint: str) -> None:
        """A new container on the volume, by start.sh or by another entrypoint."""
        docker("rm", "--force", self.name, check=False)
        entrypoint = entrypoint or ("/bin/bash", "/openmates/start.sh")
        docker(
            *("run", "--detach", "--name", self.name, "--network", "none", "--user", "70:70", "--read-only"),
            *("--cap-drop", "ALL", "--tmpfs", "/tmp", "--tmpfs", "/var/run/postgresql:uid=70,gid=70,mode=0700"),
            *("--env", "POSTGRES_USER=directus", "--env", "POSTGRES_DB=directus"),
            *("--env", "POSTGRES_PASSWORD_FILE=/openmates/POSTGRES_PASSWORD"),
            *("--volume", f"{self.folder}:/openmates:ro", "--volume", f"{self.name}:{DATA}"),
            *("--entrypoint", entrypoint[0], image("cms-database"), *entrypoint[1:]),
        )

    def sh(self, command: str) -> bool:
        return docker("exec", self.name, "sh", "-c", command, check=False).returncode == 0

    def kill_when(self, moment: str) -> None:
        """SIGKILL as soon as the state is reached, watched for from inside, so that none is missed."""
        look = f"until {moment} 2>/dev/null; do :; done"
        docker("exec", self.name, "sh", "-c", look, check=False, timeout=120)
        docker("kill", self.name, check=False)

    def kill(self) -> None:
        docker("kill", self.name, check=False)

    def sql(self, statement: str, database: str = "directus") -> str:
        command = ("psql", "-h", "/var/run/postgresql", "-U", "directus", "-d", database, "-Atqc", statement)
        return docker("exec", self.name, *command).stdout.strip()

    def ready(self) -> bool:
        return self.sh("pg_isready -q -h 127.0.0.1 -U directus -d directus && psql -U directus -d directus -c ''")

    def works(self) -> None:
        """It starts, has its database, accepts the password over TCP, and left no temporary files."""
        wait_until(self.ready, "the database is ready", 60, self.log)
        connect = (
            "PGPASSWORD=$(cat /openmates/POSTGRES_PASSWORD) psql -h 127.0.0.1 -U directus -d directus -Atc 'select 1'"
        )
        assert self.sh(connect)
        assert not self.sh(f"test -e {DATA}/.first-start")

    def log(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def remove(self) -> None:
        docker("rm", "--force", self.name, check=False)
        docker("volume", "rm", "--force", self.name, check=False)


@pytest.fixture
def database(tmp_path: Path, worker_id: str) -> Iterator[Database]:
    database = Database(tmp_path, f"openmates-database-test-{worker_id}")
    database.remove()
    yield database
    database.remove()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_first_start_that_is_killed_heals_by_itself(database: Database, moment: str) -> None:
    database.start()
    database.kill_when(MOMENTS[moment])
    database.start()
    database.works()


def test_a_first_start_that_is_killed_again_and_again_heals_by_itself(database: Database) -> None:
    for _ in range(6):
        database.start()
        time.sleep(random.uniform(0.0, 1.5))  # a random moment is the point
        database.kill()
    database.start()
    database.works()


def test_what_is_stored_survives_a_kill_and_a_start(database: Database) -> None:
    database.start()
    database.works()
    database.sql("create table kept (x int); insert into kept values (42)")
    database.kill()
    database.start()
    database.works()
    assert database.sql("select x from kept") == "42"


@pytest.mark.parametrize("used", [True, False], ids=["with data", "just set up"])
def test_a_database_of_before_this_script_is_left_as_it_is(database: Database, used: bool) -> None:
    """It has no marker; its own database is enough."""
    database.start("docker-entrypoint.sh", "postgres")
    wait_until(database.ready, "the database is ready", 60)
    if used:
        database.sql("create table kept (x int); insert into kept values (42)")
    identity = database.sql("select system_identifier from pg_control_system()")
    database.kill()
    database.start()
    database.works()
    assert database.sql("select system_identifier from pg_control_system()") == identity
    assert not used or database.sql("select x from kept") == "42"
    assert not database.sh(f"test -e {DATA}/.incomplete")


def test_data_in_the_maintenance_database_counts_as_data(database: Database) -> None:
    database.start("docker-entrypoint.sh", "postgres")
    wait_until(database.ready, "the database is ready", 60)
    database.sql("create table kept (x int)", database="postgres")
    database.sql("drop database directus", database="postgres")
    database.kill()
    database.start()
    wait_until(lambda: database.sh("pg_isready -q -h 127.0.0.1"), "the database answers", 60)
    assert database.sql("select count(*) from kept", database="postgres") == "0"


def test_the_images_own_entrypoint_never_completes_what_was_cut_off_and_this_script_does(database: Database) -> None:
    database.start("docker-entrypoint.sh", "postgres")
    database.kill_when(f"test -s {DATA}/PG_VERSION")
    database.start("docker-entrypoint.sh", "postgres")
    # Where the kill came late, it runs without the database.
    ended, answers = ("inspect", "--format", "{{.State.Status}}", database.name), "pg_isready -q -h 127.0.0.1"
    wait_until(lambda: database.sh(answers) or docker(*ended).stdout.strip() == "exited", "it ends or answers", 90)
    assert not database.ready(), "the lab's image is more lenient than upstream's"

    database.start()
    database.works()
    assert database.sh(f"test -s {DATA}/.incomplete/PG_VERSION"), "what was there is kept"
    assert "moving what it left" in database.log()


def test_an_interrupted_move_is_continued(database: Database) -> None:
    database.start("docker-entrypoint.sh", "postgres")
    database.kill_when(f"test -s {DATA}/PG_VERSION")
    half = f"mkdir -m 0700 {DATA}/.incomplete.moving && mv {DATA}/PG_VERSION {DATA}/.incomplete.moving/"
    database.start("sh", "-c", f"{half} && sleep 600")
    wait_until(lambda: database.sh(f"test -e {DATA}/.incomplete.moving/PG_VERSION"), "it is half moved")
    database.kill()
    database.start()
    database.works()


PASSWORDS = ["Qk7'\"$x\\\\ü{{%;--Zm4", "Mf9sLc3JgH6yDe8Ua1"]


def test_a_changed_password_takes_effect_when_the_container_starts(database: Database) -> None:
    """Any printable text; also by a start that was killed, and for the password of before the change again."""
    database.start()
    database.works()
    for password in PASSWORDS:
        database.password = password
        database.start()
        database.kill_when(f"test -e {DATA}/postmaster.pid")
        database.start()
        database.works()
        assert password not in database.log()
    database.start()
    database.works()
    assert "password" not in database.log(), "it was set already"


def test_a_lock_file_of_a_killed_container_that_names_a_process_of_this_one_is_removed(database: Database) -> None:
    """Single-user mode leaves such a number; a health check gets the same one by chance."""
    database.start()
    database.works()
    database.password = PASSWORDS[0]
    lock = f'sed -i "1s/.*/-$!/" {DATA}/postmaster.pid'
    database.start("bash", "-c", f"sleep 600 & {lock}; exec /bin/bash /openmates/start.sh")
    database.works()


def test_data_of_another_version_is_not_touched_and_both_are_named(database: Database, tmp_path: Path) -> None:
    """By the container itself, and by what the role runs before a container is replaced."""
    database.start()
    database.works()
    refuse = (tmp_path, database.name)
    assert version_problem(*refuse) == ""
    assert database.sh(f"echo 16 > {DATA}/PG_VERSION")
    assert "is PostgreSQL 17, and the data in the volume" in version_problem(*refuse)
    database.start()
    ended = ("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", database.name)
    wait_until(lambda: docker(*ended).stdout.split() == ["1", "exited"], "it ends", 30)
    assert "is of PostgreSQL 16, and this image is PostgreSQL 17" in database.log()


def version_problem(folder: Path, volume: str) -> str:
    """What data-version.sh reports, with a `docker` that has a Compose project."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (folder / "docker-compose.yml").touch()
    compose = f'[ "$1" != compose ] || {{ echo {image("cms-database")}; exit; }}'
    (programs / "docker").write_text(f'#!/bin/sh\n{compose}\nexec {shutil.which("docker")} "$@"\n')
    (programs / "docker").chmod(0o755)
    words = ["sh", ROOT / "roles/directus/files/data-version.sh", folder, "cms-database", volume, DATA]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout


def test_files_of_something_else_are_not_touched(database: Database) -> None:
    database.start("sh", "-c", f"echo mine > {DATA}/notes; sleep 600")
    wait_until(lambda: database.sh(f"test -s {DATA}/notes"), "the file is there")
    database.start()
    ended = ("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", database.name)
    wait_until(lambda: docker(*ended).stdout.split() == ["1", "exited"], "it ends", 30)
    assert "holds notes, but no database" in database.log()
