"""Tunnels to internal tools, as an operator opens and ends them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

from lab import Server


def start(server: Server, *arguments: str) -> subprocess.Popen:
    operator = server.operator
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_STDOUT_CALLBACK": "openmates.server.report",
    }
    command = ["ansible-playbook", operator.playbook("playbooks/tunnel.yml"), "-i", operator.inventory]
    return subprocess.Popen(
        [*command, "--limit", server.name, *arguments],
        cwd=operator.directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def tunnel(server: Server, service: str, *arguments: str) -> Iterator[tuple[subprocess.Popen, int, str]]:
    """An open tunnel: the run, the local port, and what the run printed."""
    run, printed = start(server, "-e", f"service={service}", *arguments), ""
    try:
        for line in run.stdout:
            printed += line
            if "until Ctrl-C" in line:
                break
        match = re.search(rf"{service} of {server.name}: http://127\.0\.0\.1:(\d+)/", printed)
        assert match, printed
        yield run, int(match[1]), printed
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        run.stdout.read()
        run.wait(30)


def left() -> str:
    """The processes of tunnels."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in listed.splitlines() if "ssh" in line and " -L 127.0.0.1:" in line)


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False
