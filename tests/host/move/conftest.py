"""The move drill goes on where it stopped: a case that passed with the present lab hosts is left out.

Each case begins where the one before has ended, so what was seeded is remembered as well. Without the file in the lab's
state everything runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[3] / ".lab"
MEMORY = LAB / "move-drill.json"


def hosts(config: pytest.Config) -> list[str]:
    """The ids of the two lab hosts: another one has passed nothing."""
    names = [str(config.getoption("--hosts")).rpartition("-")[2], os.environ.get("MOVE_TO", "real1")]
    return [(LAB / f"{name}.id").read_text() if (LAB / f"{name}.id").exists() else "" for name in names]


class Memory(dict):
    """`passed`, the cases, and `seeded`."""

    def __init__(self, config: pytest.Config) -> None:
        found = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}
        fresh = {"hosts": hosts(config), "passed": [], "seeded": {}}
        super().__init__(found if found.get("hosts") == fresh["hosts"] else fresh)

    def save(self) -> None:
        MEMORY.write_text(json.dumps(self, indent=1))


def pytest_configure(config: pytest.Config) -> None:
    config.move_drill = Memory(config)


@pytest.fixture(scope="session")
def memory(pytestconfig: pytest.Config) -> Memory:
    return pytestconfig.move_drill


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = [item for item in items if item.name in config.move_drill["passed"]]
    if done:
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item not in done]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> object:
    report = yield
    if report.when == "call" and report.passed and item.path.parent == Path(__file__).parent:
        item.config.move_drill["passed"].append(item.name)
        item.config.move_drill.save()
    return report
