"""The order of the drills, which share a server: the first provisions it, the last removes all of it."""

from __future__ import annotations

import pytest

ORDER = ["test_interrupted", "test_deploy", "test_rotated_secret", "test_removed"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(item.path.stem))
