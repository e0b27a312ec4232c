"""roles/directus/files/backup.sh, with a `docker` that records its calls and has a database."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/directus/files/backup.sh"
DOCKER = """#!/bin/sh
echo "$PWD: $*" >> {folder}/calls
case "$*" in
  *" up "* | *" stop "*) echo " Container openmates-cms-database-1  Healthy" >&2;;
  "volume inspect"*) [ -e {folder}/volume ];;
  *psql*) cat {folder}/tables;;
  *pg_dump*) printf dumped; [ ! -e {folder}/full ] || {{ echo "No space left" >&2; exit 1; }};;
esac
"""
Backup = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A host with a Compose project, a volume, and a database of 30 tables."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER.format(folder=tmp_path))
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/docker-compose.yml").touch()
    (tmp_path / "volume").touch()
    (tmp_path / "tables").write_text("30\n")
    return tmp_path


@pytest.fixture
def backup(folder: Path) -> Backup:
    def run(name: str = "", keep: int = 3, *stop: str) -> subprocess.CompletedProcess:
        words = [folder / "project", "cms-database", "the-volume", folder / "dumps", str(keep), name, *stop]
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        command = ["sh", SCRIPT, *words]  # on a terminal, as by Ansible's `script`, both outputs are one
        return subprocess.run(command, env=environment, stdout=PIPE, stderr=STDOUT, text=True, check=False)

    return run


def calls(folder: Path) -> str:
    return (folder / "calls").read_text() if (folder / "calls").exists() else ""


def dumps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "dumps").glob("*"))


def test_a_dump_is_made_for_root_alone_and_named_by_the_time(folder: Path, backup: Backup) -> None:
    done = backup()
    [name] = dumps(folder)
    assert (done.returncode, done.stdout) == (0, f"{folder}/dumps/{name}\n")
    assert re.fullmatch(r"directus-\d{8}T\d{6}Z\.dump", name)
    assert (folder / "dumps" / name).read_text() == "dumped"
    assert stat.S_IMODE((folder / "dumps" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "dumps").stat().st_mode) == 0o700
    began = calls(folder).splitlines()[1]
    assert began.startswith(f"{folder}/project: compose") and "--no-deps --no-recreate --wait cms-database" in began
    assert " stop " not in calls(folder)


def test_services_are_stopped_before_the_dump(folder: Path, backup: Backup) -> None:
    assert backup("", 3, "cms").returncode == 0
    verbs = re.findall(r"--ansi=never (\w+)", calls(folder))
    assert verbs == ["up", "exec", "stop", "exec"]
    assert "--ansi=never stop cms" in calls(folder)


@pytest.mark.parametrize("missing", ["project/docker-compose.yml", "volume"])
def test_without_a_database_nothing_is_started_or_dumped(folder: Path, backup: Backup, missing: str) -> None:
    (folder / missing).unlink()
    done = backup("", 3, "cms")
    assert (done.returncode, done.stdout) == (0, "")
    assert "compose" not in calls(folder) and not (folder / "dumps").exists()


def test_a_database_without_tables_is_not_dumped_and_nothing_is_stopped(folder: Path, backup: Backup) -> None:
    (folder / "tables").write_text("0\n")
    done = backup("", 3, "cms")
    assert (done.returncode, done.stdout) == (0, "") and not (folder / "dumps").exists()
    assert " stop " not in calls(folder)


def test_an_incomplete_dump_is_not_kept_and_ends_the_run(folder: Path, backup: Backup) -> None:
    backup("20261120T000000Z", 1)
    (folder / "full").touch()
    done = backup("", 1)
    assert done.returncode != 0
    assert "No space left" in done.stdout and "was not backed up, so it is not changed" in done.stdout
    assert dumps(folder) == ["directus-20261120T000000Z.dump"], "an older dump is removed only after a new one"


@pytest.mark.parametrize(("keep", "left"), [(3, 3), (9, 6), (0, 1)])
def test_old_dumps_are_removed_and_that_of_a_failed_attempt_is_none_of_them(
    folder: Path, backup: Backup, keep: int, left: int
) -> None:
    (folder / "dumps").mkdir()
    names = [f"directus-2026112{day}T000000Z.dump" for day in range(5)]
    others = ["directus-20261129T000000Z.note", "something else"]
    for name in [*names, *others]:
        (folder / "dumps" / name).touch()
    backup("retry", 9)
    assert dumps(folder) == sorted([*names, *others, "directus-retry.dump"])
    backup("20261130T000000Z", keep)
    kept = [*names, "directus-20261130T000000Z.dump"][-left:]
    assert dumps(folder) == sorted([*kept, *others, "directus-retry.dump"])
