"""lab/arm64.py: what makes a case pass or fail."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECAP = "PLAY RECAP ***\narm1   : ok=41   changed={}    unreachable=0    failed=0    skipped=3\n"


@pytest.fixture
def arm64(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The program, with a state of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "lab"))
    # Other tests load these modules in their own way and must find them as they left them.
    names = ("arm64", "proofs", "lab_arm64")
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in names}
    program = importlib.import_module("arm64")
    monkeypatch.setattr(program, "STATE", tmp_path)
    yield program
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_second_run_that_changes_something_fails(arm64: ModuleType) -> None:
    arm64.unchanged(RECAP.format(0))
    with pytest.raises(arm64.CaseFailed, match="changed=2, not 0"):
        arm64.unchanged(RECAP.format(2))


def test_a_boot_during_which_a_port_answers_fails(arm64: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm64, "playbook", lambda *_: "")

    def boots(*attempts: tuple[int, int]) -> str:
        window = arm64.window.Window()
        for port, code in attempts:
            window.seen(port, code, control=22)
        monkeypatch.setattr(arm64.window, "watched", lambda *_: arm64.window.contextlib.nullcontext(window))
        return arm64.boots("reboot", lambda: None)

    silent = (5432, arm64.window.errno.EHOSTUNREACH)
    assert "2 attempts, none answered" in boots(silent, (22, 0))
    with pytest.raises(arm64.CaseFailed, match="port 5432 refused"):
        boots(silent, (22, 0), (5432, arm64.window.errno.ECONNREFUSED))
    with pytest.raises(arm64.CaseFailed, match="sshd never answered"):
        boots(silent)


def test_a_command_that_fails_names_its_log(arm64: ModuleType) -> None:
    with pytest.raises(arm64.CaseFailed, match=r"site ended with 3; see .lab/arm64/site.log\nnot today"):
        arm64.run("site", "sh", "-c", "echo not today; exit 3")
    assert (arm64.STATE / "site.log").read_text() == "not today\n"


def test_the_images_are_all_that_the_machine_needs(arm64: ModuleType) -> None:
    rows = yaml.safe_load((ROOT / "lab/images.yml").read_text())["images"]
    assert set(arm64.IMAGES) == {name for name, row in rows.items() if row.get("image")}
