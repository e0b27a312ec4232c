"""Tunnels reach the internal tools and nothing else, and leave nothing behind."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest
from tunnels import is_open, left, start, tunnel

from lab import Server, wait_until

ANSWERS = {  # a path and what the tool answers there
    "grafana": ("/api/health", '"database"'),
    "vault": ("/v1/sys/health", '"sealed":false'),
    "cms": ("/server/ping", "pong"),
    "prometheus": ("/-/healthy", "Prometheus"),
    "alertmanager": ("/-/healthy", "OK"),
}


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
