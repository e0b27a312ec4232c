"""TCP ports for the servers that tests start."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator

import pytest


def candidates() -> Iterator[int]:
    """The ports of this process, in any order: its part of those below the ones that the kernel gives to others.

    So a server gets its own again after it was down for a moment, and no connection comes from a port that waits for
    its server.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = 20000 // workers
    first = 10000 + worker % workers * size  # one that takes a crashed one's place counts on
    return iter(random.sample(range(first, first + size), size))


PORTS = candidates()


def free_port() -> int:
    """A TCP port of the loopback address without a listener, which no other server of these tests uses."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is left")
