"""lab/hcloud.py: where the tests run, and what the record says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"


@pytest.fixture
def hcloud(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.delitem(sys.modules, "hcloud", raising=False)
    return importlib.import_module("hcloud")


def test_a_python_whose_collection_is_broken_gives_way_to_the_container(hcloud: ModuleType) -> None:
    assert hcloud.command(["-x"], (3, 11, 7))[:2] == ["docker", "run"]
    assert hcloud.command(["-x"], (3, 13, 5))[0] == "sh"
    for version in ((3, 11), (3, 13)):
        assert hcloud.command(["-x"], version)[-1] == "-x"


def test_the_two_environments_are_kept_apart(hcloud: ModuleType) -> None:
    """A link in one of them leads to a Python that the other place does not have."""
    names = {
        argument
        for version in ((3, 11), (3, 13))
        for argument in hcloud.command([], version)
        if "venv-" in argument[:25]
    }
    assert len(names) == 2


def test_the_record_names_versions_and_result(hcloud: ModuleType) -> None:
    output = "Version\nhetzner.hcloud 6.12.0\nPython 3.13.5\n......\n===== 23 passed in 90.10s (0:01:30) =====\n"
    assert hcloud.detail(output) == "hetzner.hcloud 6.12.0, Python 3.13.5: 23 passed in 90.10s (0:01:30)"
    assert hcloud.detail("").endswith("no test ran")


def test_the_inputs_exist(hcloud: ModuleType) -> None:
    assert [path for path in hcloud.INPUTS if not path.startswith(":") and not (hcloud.ROOT / path).exists()] == []
