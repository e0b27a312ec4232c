"""A real cache, and a real worker where a test asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cell import Cell


@pytest.fixture(scope="session")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    cell = Cell(tmp_path_factory.mktemp("application"))
    try:
        cell.start()
        yield cell
    finally:
        cell.remove()
