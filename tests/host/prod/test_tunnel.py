"""Tunnels to the internal tools, as an operator opens and ends them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from lab import Server, wait_until

ANSWERS = {  # a path and what the tool answers there
    "grafana": ("/api/health", '"database"'),
    "vault": ("/v1/sys/health", '"sealed":false'),
    "cms": ("/server/ping", "pong"),
    "prometheus": ("/-/healthy", "Prometheus"),
}


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
def tunnel(server: Server, service: str) -> Iterator[tuple[subprocess.Popen, int, str]]:
    """An open tunnel: the run, the local port, and what the run printed."""
    run, printed = start(server, "-e", f"service={service}"), ""
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


@pytest.mark.parametrize("service", ANSWERS)
def test_a_tool_is_reached_and_nothing_is_left_when_it_ends(server: Server, service: str) -> None:
    path, words = ANSWERS[service]
    listening = server.run("ss -Hltn | awk '{print $4}' | sort")
    with tunnel(server, service) as (run, port, printed):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            assert words in answer.read().decode()
        secrets = [value for value in server.operator.secrets().values() if isinstance(value, str) and len(value) > 7]
        assert not any(secret in printed for secret in secrets)
        if service == "grafana":
            assert f"ansible {server.name} -i inventories/lab -m debug -a var=openmates_grafana_password" in printed
        mine = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
        assert [line.split()[3] for line in mine.splitlines()] == [f"127.0.0.1:{port}"]
        assert server.run("ss -Hltn | awk '{print $4}' | sort") == listening
    assert run.returncode != 0
    wait_until(lambda: not left() and not is_open(port), "the tunnel's processes have ended", 5)


def test_a_run_that_is_killed_leaves_no_tunnel(server: Server) -> None:
    with tunnel(server, "grafana") as (run, port, _):
        run.kill()
        wait_until(lambda: not left() and not is_open(port), "the tunnel's processes have ended", 5)


def test_sshd_refuses_another_destination_and_the_operator_is_told(server: Server) -> None:
    run = start(server, "-e", '{"service": "grafana", "tunnel_tool": {"address": "172.30.0.1", "container_port": 22}}')
    printed = run.stdout.read()
    assert run.wait(30) != 0
    assert "sshd on the server does not let a tunnel lead to grafana (172.30.0.1, port 22)" in printed, printed
    assert not left()
