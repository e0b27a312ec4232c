"""Tunnels to internal tools: the port, the wait for an answer, and the end, with a fake ssh."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils import tunnel
from ansible_collections.openmates.server.plugins.plugin_utils.commands import show_variable

GRAFANA = tunnel.Destination("grafana", "172.30.0.12", 3000)
SERVES = (
    "import http.server as h, sys; "
    "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.SimpleHTTPRequestHandler).serve_forever()"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "LOOK_EVERY", 0.05)


def test_only_loopback_is_listened_on_and_no_connection_is_shared() -> None:
    options = tunnel.forwarding(GRAFANA, 3001)
    assert options[-1] == "127.0.0.1:3001:172.30.0.12:3000" and "-N" in options
    assert {"ControlMaster=no", "ControlPath=none", "ExitOnForwardFailure=yes"} <= set(options)


def test_a_port_is_the_wanted_one_or_the_first_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert tunnel.local_port(0, [port]) not in (0, port)
        with pytest.raises(tunnel.TunnelProblem, match=f"Port {port} .* is in use"):
            tunnel.local_port(port, [])
    assert tunnel.local_port(port, []) == tunnel.local_port(0, [port]) == port


def test_it_is_open_when_the_tool_answers_and_nothing_is_left() -> None:
    port = tunnel.local_port(0, [])
    with tunnel.opened([sys.executable, "-c", SERVES, str(port)], GRAFANA, port) as process:
        assert tunnel.answers(port)
    assert process.returncode == -signal.SIGTERM and not tunnel.answers(port)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no route >&2; exit 255", "ssh ended with status 255: no route"),
        (
            "echo channel 2: open failed: administratively prohibited: x >&2; exec sleep 60",
            "does not let a tunnel lead",
        ),
        ("echo connect failed: Connection refused >&2; exec sleep 60", "grafana does not answer .*Connection refused"),
    ],
)
def test_a_tunnel_that_leads_nowhere_is_explained(script: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "ANSWER_SECONDS", 0.5)
    port = tunnel.local_port(0, [])
    with pytest.raises(tunnel.TunnelProblem, match=words), tunnel.opened(["sh", "-c", script], GRAFANA, port):
        pass


def test_it_ends_with_ssh_or_with_the_run() -> None:
    ended = subprocess.Popen(["sh", "-c", "exit 3"])
    assert tunnel.stay(ended, os.getppid()) == 3
    with subprocess.Popen(["sleep", "60"]) as running:
        began = time.monotonic()
        assert tunnel.stay(running, os.getppid() + 1) == 0 and time.monotonic() - began < 5
        running.kill()


def test_the_command_that_shows_a_password_has_no_password(tmp_path: Path) -> None:
    variables = {"inventory_hostname": "prod1", "ansible_inventory_sources": ["prod,"], "openmates_x": "a-canary"}
    assert show_variable("openmates_x", variables) == "ansible prod1 -i prod, -m debug -a var=openmates_x"
