# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether services answer. A process that hangs still has its connections accepted, by the kernel; so a service whose
protocol is known is asked, and any answer counts. Of the others it is seen whether the network leads to them."""

from __future__ import annotations

import contextlib
import socket
import typing as t
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

SECONDS = 5  # for an answer

#: The port on which each service is asked, and what: a path for HTTP. An answer costs the service next to nothing.
POSTGRES = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # whether it has TLS
REDIS = b"PING\r\n"
QUESTIONS: Mapping[str, tuple[int, bytes | str]] = {
    "cms-database": (5432, POSTGRES),
    "cache": (6379, REDIS),
    "vault": (8200, "/v1/sys/health"),
    "cms": (8055, "/server/ping"),
    "api": (8000, "/v1/health"),
    "prometheus": (9090, "/-/healthy"),
    "alertmanager": (9093, "/-/healthy"),
    # Its metrics. One of its processes has them, which is replaced now and then: see MAY_REFUSE.
    "task-worker": (9101, "/favicon.ico"),
}
#: Services that work without a program on that port. A refused connection shows that the network leads to them.
MAY_REFUSE = ("task-worker",)
#: Where the others are tried: no program is expected there, and the kernel refuses.
ANY_PORT = 1


class Seen(t.Protocol):
    """A container that runs."""

    service: str
    address: str


def question(service: str) -> tuple[int, bytes]:
    """The port, and the bytes to send; none if a connection is enough."""
    port, what = QUESTIONS.get(service, (ANY_PORT, b""))
    if isinstance(what, str):
        # With a documentation address the api does not count this among its clients' requests.
        what = f"GET {what} HTTP/1.0\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n".encode()
    return port, what


def answers(service: str, address: str, seconds: float = SECONDS) -> bool:
    """Whether a service answers at that address within that time."""
    port, what = question(service)
    try:
        with contextlib.closing(socket.create_connection((address, port), timeout=seconds)) as connection:
            connection.settimeout(seconds)
            if not what:
                return True
            connection.sendall(what)
            return bool(connection.recv(1))
    except ConnectionRefusedError:
        return service not in QUESTIONS or service in MAY_REFUSE
    except OSError:
        return False


def silent(containers: list[Seen]) -> set[str]:
    """The services that do not answer, asked at the same time."""
    asked = [container for container in containers if container.address]
    if not asked:
        return set()
    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(lambda container: answers(container.service, container.address), asked))
    return {container.service for container, well in zip(asked, found, strict=True) if not well}
