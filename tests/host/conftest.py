"""Fixtures of the tests of a provisioned lab host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from outside import Neighbour, Ssh
from upgrading import Packages

from lab import Server


@pytest.fixture(scope="module")
def server(host) -> Server:
    """The lab host under test."""
    return Server(host)


@pytest.fixture(scope="session")
def neighbour(request: pytest.FixtureRequest) -> Iterator[Neighbour]:
    """A foreign machine on the lab host's network."""
    machine = Neighbour(request.config.getoption("--hosts").rpartition("-")[2])
    try:
        machine.start()
        yield machine
    finally:
        machine.remove()


@pytest.fixture(scope="module")
def ssh(server, tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    """Logins to the lab host as its administrator."""
    return Ssh(server, tmp_path_factory.mktemp("ssh") / "config")


@pytest.fixture(scope="module")
def packages(server: Server) -> Iterator[Packages]:
    """Packages that upgrade.yml can upgrade."""
    made = Packages(server)
    made.prepare()
    yield made
    made.remove()
