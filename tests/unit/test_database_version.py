"""The version of PostgreSQL's data and that of the image: compared by preflight, and before containers are replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from ansible_collections.openmates.server.plugins.module_utils import postgres_data
from test_preflight import good, problems

SCRIPT = Path(__file__).parents[2] / "roles/directus/files/data-version.sh"
DATA = "/var/lib/postgresql/data"


def found(image: str, data: str) -> list[str]:
    settings = good("prod")
    settings["openmates_services"] = {
        **settings["openmates_services"],
        "cms-database": {**settings["openmates_services"]["cms-database"], "image": image},
    }
    return problems(settings, host_state={"database_version": data})


@pytest.mark.parametrize(
    ("image", "data"),
    [
        ("postgres:17.12-alpine", "17"),
        ("postgres:17.12-alpine", ""),
        ("mirror.example.test:5000/library/postgres:16.4", "16"),
        ("mirror.example.test/own-database:3.1.0", "16"),  # the image itself is asked later
    ],
)
def test_a_version_that_can_read_the_data_is_no_problem(image: str, data: str) -> None:
    assert found(image, data) == []


@pytest.mark.parametrize(("image", "data"), [("postgres:17.12-alpine", "16"), ("postgres:16.4", "17")])
def test_another_version_is_refused_with_both_versions_the_setting_and_the_way(image: str, data: str) -> None:
    [problem] = found(image, data)
    for words in ("openmates_services.cms-database.image", image, f"of PostgreSQL {data}", "docs/directus.md", "dump"):
        assert words in problem


@pytest.mark.parametrize("data", ["17", ""])
def test_images_that_keep_their_data_elsewhere_are_refused(data: str) -> None:
    [problem] = found("postgres:18.1-alpine@sha256:" + "a" * 64, data)
    assert "PostgreSQL 18" in problem and "at another path" in problem


def test_data_of_something_else_is_refused() -> None:
    [problem] = found("postgres:17.12-alpine", postgres_data.UNKNOWN)
    assert "openmates-postgres-data" in problem


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({}, ""),
        ({"PG_VERSION": "17\n", "base/1/x": ""}, "17"),
        ({"PG_VERSION": "9.6\n"}, "9.6"),
        ({"PG_VERSION": ""}, "unknown"),
        ({"ibdata1": "", "mysql/x": ""}, "unknown"),
        ({"18/docker/PG_VERSION": "18\n"}, "unknown"),
        ({"lost+found/x": "", ".incomplete/PG_VERSION": "17\n"}, ""),
        ({".first-start/data/PG_VERSION": "17\n", "base/1/x": "", "global/x": ""}, ""),
    ],
)
def test_the_version_of_a_volume_by_its_files(tmp_path: Path, files: dict[str, str], version: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert postgres_data.version(tmp_path) == version


def test_a_volume_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert postgres_data.version(tmp_path / "missing") == ""


DOCKER = """#!/bin/sh
echo "$* ${{DOCKER_CONFIG-}}" >> {folder}/calls
case "$*" in
  "volume inspect"*) [ -e {folder}/volume ];;
  *"config --images"*) echo own-database:3.1.0;;
  "image inspect"*) [ -e {folder}/image ];;
  pull*) [ -e {folder}/registry ];;
  run*) cat {folder}/seen;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A host with a Compose project, a volume and an image."""
    (tmp_path / "docker").write_text(DOCKER.format(folder=tmp_path))
    (tmp_path / "docker").chmod(0o755)
    for name in ("docker-compose.yml", "volume", "image", "registry"):
        (tmp_path / name).touch()
    return tmp_path


def checked(folder: Path, seen: str | None) -> subprocess.CompletedProcess:
    if seen is not None:
        (folder / "seen").write_text(seen)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    words = ["sh", SCRIPT, folder, "cms-database", "the-volume", DATA]
    return subprocess.run(
        words, env=environment, stdout=PIPE, stderr=STDOUT, text=True, check=False
    )  # as on a terminal


@pytest.mark.parametrize("seen", [f"17 {DATA} 17", f"17 {DATA} "])
def test_an_image_that_can_read_the_data_may_replace_the_former(folder: Path, seen: str) -> None:
    done = checked(folder, seen)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (f"16 {DATA} 17", ["own-database:3.1.0", "is PostgreSQL 16", "of PostgreSQL 17", "docs/directus.md"]),
        (f"17 {DATA} 16", ["is PostgreSQL 17", "of PostgreSQL 16"]),
        ("18 /var/lib/postgresql/18/docker 17", ["/var/lib/postgresql/18/docker", "would not be kept"]),
        ("18 /var/lib/postgresql/18/docker ", ["would not be kept"]),
        (None, ["is no image of PostgreSQL"]),
    ],
)
def test_an_image_that_cannot_is_refused_with_the_setting(folder: Path, seen: str | None, words: list[str]) -> None:
    done = checked(folder, seen)
    assert done.returncode == 1
    for word in [*words, "openmates_services.cms-database.image"]:
        assert word in done.stdout


@pytest.mark.parametrize("missing", ["docker-compose.yml", "volume"])
def test_a_server_without_data_is_not_asked(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert checked(folder, None).returncode == 0
    assert "run" not in ((folder / "calls").read_text() if (folder / "calls").exists() else "")


def test_an_image_is_pulled_if_it_is_missing_and_otherwise_left_to_the_later_report(folder: Path) -> None:
    (folder / "image").unlink()
    assert checked(folder, f"16 {DATA} 17").returncode == 1
    (folder / "registry").unlink()
    assert checked(folder, f"16 {DATA} 17").returncode == 0


def test_an_image_that_is_not_public_is_pulled_with_the_login_of_its_registry(folder: Path) -> None:
    (folder / "image").unlink()
    (folder / "secrets/.docker").mkdir(parents=True)
    (folder / "secrets/.docker/config.json").touch()
    assert checked(folder, f"17 {DATA} 17").returncode == 0
    [pull] = [line for line in (folder / "calls").read_text().splitlines() if line.startswith("pull ")]
    assert pull.endswith(f" {folder}/secrets/.docker")
