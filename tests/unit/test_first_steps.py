"""What a newcomer reads first agrees with what is there: the address, the licence, make's targets, CI's commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())


def documents() -> dict[str, str]:
    return {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "lab/README.md")}


def test_contributing_names_the_address_of_the_collection() -> None:
    assert f"<{GALAXY['repository']}>" in documents()["CONTRIBUTING.md"]


def test_the_licence_is_the_one_that_the_collection_names() -> None:
    assert GALAXY["license"] == ["GPL-3.0-or-later"]
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()


def test_ci_calls_only_make_targets() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {"make check", "make test"} <= set(commands)
    for command in commands:
        program, target = command.split()
        assert program == "make" and target in TARGETS


def test_every_make_target_that_is_documented_exists() -> None:
    for name, text in documents().items():
        for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
            assert target in TARGETS, f"{name} names make {target}"


def test_help_and_readme_name_check_beside_test() -> None:
    described = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert {"check", "test"} <= described
    assert re.search(r"^make check .*\n^make test ", documents()["README.md"], re.MULTILINE)


def test_help_lists_every_described_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    described = set(re.findall(r"^(\S+):.*## ", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"^ *make (\S+)", listed, re.MULTILINE)) == described
    assert "arm64" in described


def test_every_path_in_the_readme_exists() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", documents()["README.md"]):
        assert (ROOT / name).exists(), name
