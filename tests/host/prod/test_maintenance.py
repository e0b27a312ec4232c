"""Maintenance: what clients of each kind get, without a reload of Caddy."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from web import ask, secure

from lab import Server

FRONTEND = "https://web.example.test"
FLAG = "/var/lib/openmates-maintenance/flag.json"


def switch(server: Server, state: str, *arguments: str) -> str:
    result = server.playbook("playbooks/maintenance.yml", "-e", f"state={state}", *arguments)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def closed(server: Server) -> Iterator[Server]:
    """The server in maintenance."""
    assert ask(server, "GET", "/v1/health").status == 200
    caddy = server.run("systemctl show --property MainPID,StateChangeTimestamp caddy")
    switch(server, "on", "-e", "reason=a-test")
    try:
        yield server
    finally:
        switch(server, "off")
    assert ask(server, "GET", "/v1/health").status == 200
    assert server.run("systemctl show --property MainPID,StateChangeTimestamp caddy") == caddy


def test_a_client_gets_503_on_both_families(closed: Server) -> None:
    for address in closed.addresses:
        answer = ask(closed, "GET", "/v1/health", address)
        assert (answer.status, answer.getheader("Retry-After")) == (503, "60")
        assert json.loads(answer.read())["error"] == "maintenance"


def test_a_web_app_on_another_origin_can_read_it(closed: Server) -> None:
    headers = {"Origin": FRONTEND}
    answer = ask(closed, "POST", "/v1/auth/login", headers=headers, body=b"x" * 100_000)
    assert (answer.status, answer.getheader("Access-Control-Allow-Origin")) == (503, FRONTEND)
    headers |= {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = ask(closed, "OPTIONS", "/v1/auth/login", headers=headers)
    assert preflight.status == 204
    assert preflight.getheader("Access-Control-Allow-Headers") == "content-type"
    other = ask(closed, "GET", "/", headers={"Origin": "https://other.example.test"})
    assert (other.status, other.getheader("Access-Control-Allow-Origin")) == (503, None)


def test_a_websocket_is_refused(closed: Server) -> None:
    with secure(closed, closed.domain) as connection:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket"
        connection.sendall(f"GET /v1/ws HTTP/1.1\r\nHost: {closed.domain}\r\n{upgrade}\r\n{key}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 503 ")


def test_only_root_switches_it_and_caddy_needs_no_access_to_the_file(closed: Server) -> None:
    assert closed.run(f"stat -c '%a %U' {FLAG} $(dirname {FLAG})").split() == ["600", "root", "755", "root"]
    assert closed.host.run(f"runuser -u caddy -- rm -f {FLAG}").rc != 0


def test_verify_and_the_server_say_that_it_is_in_maintenance(closed: Server) -> None:
    result = closed.playbook("playbooks/verify.yml")
    assert result.returncode != 0
    assert "IN MAINTENANCE" in result.stdout and "a-test" in result.stdout
    assert "a-test" in closed.run("openmates-ready --json")


def test_switching_under_requests_gives_no_other_answer(server: Server) -> None:
    statuses: Counter = Counter()
    stop = threading.Event()

    def ask_on() -> None:
        while not stop.is_set():
            statuses[ask(server, "POST", "/v1/nowhere", body=b"x" * 10_000).status] += 1

    clients = [threading.Thread(target=ask_on) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(5):
        server.run(f"mkdir -p $(dirname {FLAG}) && touch {FLAG} && sleep 0.2 && rm {FLAG} && sleep 0.2")
    stop.set()
    for client in clients:
        client.join()
    assert statuses[503] > 0 and set(statuses) <= {503, 404, 405}, statuses
