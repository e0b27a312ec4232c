"""Fixtures of the tests of a provisioned lab host."""

from __future__ import annotations

import pytest

from lab import Server


@pytest.fixture(scope="module")
def server(host) -> Server:
    """The lab host under test."""
    return Server(host)
