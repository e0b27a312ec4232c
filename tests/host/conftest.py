"""Fixtures of the tests of a provisioned lab host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import testinfra
from outside import Neighbour, Ssh
from upgrading import Packages, upgrade

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


@pytest.fixture(scope="session")
def up_to_date(request: pytest.FixtureRequest) -> None:
    """What Debian has published since the image was built is installed, Docker and runc included, which wait for it."""
    upgrade(Server(testinfra.get_host(request.config.getoption("--hosts"))))


@pytest.fixture(scope="module")
def packages(server: Server) -> Iterator[Packages]:
    """Packages that upgrade.yml can upgrade."""
    made = Packages(server)
    made.prepare()
    yield made
    made.remove()
