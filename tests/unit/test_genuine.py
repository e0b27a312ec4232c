"""lab/genuine.py: repetition, Go's version, and the content of a report."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"


@pytest.fixture
def genuine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The program, with a record of its own."""
    monkeypatch.syspath_prepend(str(LAB))
    # Other tests load these modules in their own way and must find them as they left them.
    ours = [name for name in sys.modules if name.partition(".")[0] in ("genuine", "proofs", "lab_images")]
    before = {name: sys.modules.pop(name) for name in ours}
    program = importlib.import_module("genuine")
    remembered: dict[str, tuple] = {}

    def record(case: str, result: str, detail: str, *, inputs: list, facts: tuple = (), seconds: float) -> None:
        remembered.pop(case, None)
        if result == "passed":
            remembered[case] = (*inputs, *facts)

    monkeypatch.setattr(program.proofs, "record", record)
    monkeypatch.setattr(program.proofs, "done", lambda case, inputs, facts: remembered.get(case) == (*inputs, *facts))
    monkeypatch.setattr(program, "BINARY", tmp_path / "vault")
    monkeypatch.setattr(program, "lab_playbook", lambda *_: None)
    yield program
    for name in [name for name in sys.modules if name.partition(".")[0] in ("genuine", "proofs", "lab_images")]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.24 linux/arm64", (1, 24)),
        ("module x\n\ngo 1.25.1\n\nrequire y v1.2.3\n", (1, 25, 1)),
        ("command not found", ()),
    ],
)
def test_versions_of_go(genuine: ModuleType, text: str, version: tuple) -> None:
    assert genuine.version_of(text) == version


def test_a_go_that_is_too_old_is_not_used(genuine: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed = genuine.version_of((genuine.MODULE / "go.mod").read_text())
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setattr(genuine.shutil, "which", lambda _: str(old))
    monkeypatch.setattr(genuine, "CACHE", tmp_path / "cache")
    new = tmp_path / "cache/go/lib/python3.11/site-packages/go/bin/go"
    new.parent.mkdir(parents=True)
    new.write_text(f"#!/bin/sh\necho go version go{'.'.join(map(str, needed))} linux/amd64\n")
    new.chmod(0o755)
    assert genuine.go() == str(new)


def test_the_image_has_the_product_s_name_for_it(genuine: ModuleType) -> None:
    assert genuine.image_name().startswith("hashicorp/vault:")


def test_a_report_without_the_server_s_own_version_fails(genuine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genuine, "binary_version", lambda: "HashiCorp Vault 1.21.0")
    assert genuine.reported("  vault  ok  HashiCorp Vault 1.21.0 (reported by the server)\n")
    for report in ("vault ok OpenBao 2.7.2 (reported by the server)", "vault ok HashiCorp Vault 1.21.0"):
        with pytest.raises(genuine.CaseFailed, match="does not name HashiCorp Vault"):
            genuine.reported(report)


def test_a_failed_command_is_recorded_without_a_path_of_this_machine(
    genuine: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(genuine, "CACHE", tmp_path)
    with pytest.raises(genuine.CaseFailed) as failure:
        genuine.run("restore", "sh", "-c", f"echo {tmp_path}/x is wrong; exit 3")
    recorded, *output = str(failure.value).splitlines()
    assert recorded == "restore ended with 3; see .cache/genuine/logs/restore.log"
    assert output == [f"{tmp_path}/x is wrong"] and (tmp_path / "logs/restore.log").exists()


Scenario = Callable[..., list[str]]


@pytest.fixture
def scenario(genuine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """A function that runs a scenario of three cases, of which some may fail, and returns what was done."""

    def play(*failing: str, host_remains: bool = True, force: bool = False) -> list[str]:
        done: list[str] = []

        def work(name: str) -> str:
            done.append(name)
            if name in failing:
                raise genuine.CaseFailed(f"{name} failed")
            return ""

        monkeypatch.setattr(
            genuine, "SCENARIO", {name: lambda name=name: work(name) for name in ("one", "two", "three")}
        )
        monkeypatch.setattr(genuine, "host_remains", lambda: host_remains)
        try:
            genuine.run_scenario(force)
        except genuine.CaseFailed as problem:
            done.append(str(problem))
        return done

    return play


def test_a_failed_scenario_is_continued_and_not_repeated(scenario: Scenario) -> None:
    assert scenario("two") == ["one", "two", "two failed"]
    assert scenario() == ["two", "three"]
    assert scenario() == []
    assert scenario(force=True) == ["one", "two", "three"]


def test_a_scenario_starts_over_without_its_host_or_with_another_binary(
    scenario: Scenario, genuine: ModuleType
) -> None:
    assert scenario("three") == ["one", "two", "three", "three failed"]
    assert scenario("three", host_remains=False) == ["one", "two", "three", "three failed"]
    genuine.BINARY.write_bytes(b"another build")
    assert scenario() == ["one", "two", "three"]
    assert scenario(host_remains=False) == [], "all of it passed"
