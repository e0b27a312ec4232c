# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A forwarding of ssh from a port of this machine's loopback address to an internal tool, for as long as it is open."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Iterator, Sequence

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS = 30
LOOK_EVERY = 0.5
#: No other connection takes over the forwarding, as it would go on when this process has ended.
OWN_CONNECTION = ("-o", "ControlMaster=no", "-o", "ControlPath=none")
OPTIONS = (*OWN_CONNECTION, "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-o", "GatewayPorts=no")


class TunnelProblem(Exception):
    """Why the tunnel does not lead to the tool, and the remedy."""


class Destination(t.NamedTuple):
    """What the server is to connect to."""

    name: str
    address: str
    port: int


def forwarding(destination: Destination, port: int) -> list[str]:
    """The options of ssh that open the tunnel and run nothing on the server."""
    return [*OPTIONS, "-N", "-T", "-L", f"{LOOPBACK}:{port}:{destination.address}:{destination.port}"]


def local_port(wanted: int, preferred: Sequence[int]) -> int:
    """A free port of this machine: the wanted one, or the first preferred one that is free, or any.

    Raises TunnelProblem if the wanted one is in use.
    """
    for port in [wanted] if wanted else [*preferred, 0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return probe.getsockname()[1]
    raise TunnelProblem(
        f"Port {wanted} of this machine (local_port) is in use. Name another one, or none for a free one."
    )


@contextlib.contextmanager
def opened(command: Sequence[str | bytes], destination: Destination, port: int) -> Iterator[subprocess.Popen]:
    """The running ssh, once the tool answers through it. It ends with the block. Raises TunnelProblem."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            _wait_for_answer(process, destination, port, errors)
            yield process
        finally:
            process.terminate()
            process.wait()


def _wait_for_answer(process: subprocess.Popen, destination: Destination, port: int, errors: t.IO[bytes]) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        if answers(port):
            return
        said = _said(errors)
        if process.poll() is not None:
            raise TunnelProblem(f"ssh ended with status {process.returncode}: {said or 'it printed nothing'}")
        if "administratively prohibited" in said:
            raise TunnelProblem(
                f"sshd on the server does not let a tunnel lead to {destination.name} ({destination.address}, port "
                f"{destination.port}). `site.yml --tags ssh` permits it, unless openmates_ssh_options forbids it."
            )
        if time.monotonic() > end:
            raise TunnelProblem(
                f"{destination.name} does not answer at {destination.address}, port {destination.port} of the server"
                f"{': ' + said if said else ''}. `status.yml` shows whether it runs."
            )
        time.sleep(LOOK_EVERY)


def _said(errors: t.IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    return " ".join(line.strip() for line in lines[-4:] if line.strip())[-300:]


def answers(port: int) -> bool:
    """Whether a web server answers through the tunnel, with any status."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return True
    finally:
        connection.close()


def stay(process: subprocess.Popen, parent: int) -> int:
    """Wait until ssh ends, for its status; or until the process that the tunnel is for has ended, then 0."""
    while os.getppid() == parent:
        try:
            return process.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
    return 0
