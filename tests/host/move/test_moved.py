"""A server moves to another one while a client asks steadily; killed in the pause; the way back.

The old server is the host under test, the new one is real1 (MOVE_TO). Both mount one directory for the backups.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from functools import partial

import pytest
import testinfra
from drilled import ENVIRONMENT, Drill
from killing import kill_at
from moments import Moment

from lab import ROOT, Operator, inventory, wait_until

CONTAINERS = "docker ps --quiet --filter label=com.docker.compose.project=openmates"
RECORD = "/var/lib/openmates/move.json"
EVERY = 0.2  # seconds between two requests


class Both:
    """The two servers, and the name that moves."""

    def __init__(self, host) -> None:
        self.old = Drill(host)
        self.new = Drill(testinfra.get_host(f"docker://openmates-lab-{os.environ.get('MOVE_TO', 'real1')}"))
        self.domain = f"api.{self.old.name}.example.test"
        self.addresses = {side.name: inventory(side.name)[1][0] for side in (self.old, self.new)}
        self.pair = ["-e", f"move_from={self.old.name}", "-e", f"move_to={self.new.name}"]

    def command(self, playbook: str, *arguments: str) -> list[str]:
        given = ["-i", "inventories/lab", "-e", f"openmates_domain={self.domain}"]
        return ["ansible-playbook", playbook, *given, *arguments]

    def run(self, playbook: str, *arguments: str, good: bool = True) -> str:
        done = subprocess.run(
            self.command(playbook, *arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == good, done.stdout[-6000:] + done.stderr[-1000:]
        return " ".join(done.stdout.split())

    def site(self, side: Drill, *arguments: str, good: bool = True) -> str:
        return self.run("site.yml", "--limit", side.name, *arguments, good=good)

    def ask(self, side: Drill, method: str = "GET", path: str = "/whoami") -> tuple[int, dict[str, str], dict]:
        """One request by the public name, at the address of one of the servers."""
        context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
        client = http.client.HTTPSConnection(self.domain, timeout=20)
        opened = socket.create_connection((self.addresses[side.name], 443), 20)
        client.sock = context.wrap_socket(opened, server_hostname=self.domain)
        try:
            client.request(method, path, body=b"x" * 2000 if method == "POST" else None)
            answer = client.getresponse()
            text = answer.read()
            return answer.status, dict(answer.headers), json.loads(text) if text.startswith(b"{") else {}
        finally:
            client.close()


class Client(threading.Thread):
    """Asks steadily, reading and writing by turns, and keeps each answer."""

    def __init__(self, both: Both) -> None:
        super().__init__(daemon=True)
        self.both, self.ended = both, threading.Event()
        self.answers: list[tuple[float, str, dict[str, str]]] = []

    def run(self) -> None:
        number = 0
        while not self.ended.wait(EVERY):
            number += 1
            method, path = ("GET", "/whoami") if number % 2 else ("POST", "/received")
            try:
                status, headers, _ = self.both.ask(self.both.old, method, path)
                said = str(status)
            except (OSError, http.client.HTTPException) as error:
                said, headers = f"{method} {error!r}", {}
            self.answers.append((time.time(), said, headers))

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join(60)

    def judged(self) -> tuple[list[str], float]:
        """What is neither good nor the answer of maintenance, and for how many seconds that was given."""
        closed = [at for at, said, headers in self.answers if said == "503" and headers.get("Retry-After")]
        wrong = [
            f"{time.strftime('%H:%M:%S', time.gmtime(at))} {said}"
            for at, said, headers in self.answers
            if said != "200" and not (said == "503" and headers.get("Retry-After"))
        ]
        return wrong, (closed[-1] - closed[0] if closed else 0.0)


@pytest.fixture(scope="module")
def both(host) -> Both:
    """The old server runs and holds data; the new one is provisioned up to where Vault is empty."""
    made = Both(host)
    keys = Operator().keys
    for side in (made.old, made.new):
        if not side.works("docker volume inspect openmates-vault-data"):
            for file in keys.glob(f"{side.name}.*"):
                file.unlink()
    made.site(made.old)
    made.old.seed()
    made.before = made.old.held()
    made.new.ciphertext = made.old.ciphertext
    made.token = made.old.token()
    return made


def test_dns_may_lead_to_the_old_server_only_when_that_is_said(both: Both) -> None:
    refused = both.site(both.new, good=False)
    assert f"resolves to {both.addresses[both.old.name]}" in refused and "was not changed" in refused
    stopped = both.site(both.new, "-e", f"move_from={both.old.name}", good=False)
    assert "with restore.yml" in stopped
    keys = Operator().keys
    copied = keys / f"{both.new.name}.yml"
    assert copied.read_bytes() == (keys / f"{both.old.name}.yml").read_bytes()
    assert copied.stat().st_mode & 0o777 == 0o600


def test_a_repository_that_only_one_of_them_has_is_refused_before_the_pause(both: Both) -> None:
    elsewhere = ["-e", "openmates_backup_repository=/srv/not-shared"]
    both.run("site.yml", "--limit", both.old.name, "--tags", "backup", *elsewhere)
    refused = both.run("playbooks/move.yml", *both.pair, *elsewhere, good=False)
    assert "openmates_backup_repository is a path, which has to be the same directory" in refused
    assert f"{both.old.name} serves as before" in refused
    assert both.ask(both.old)[0] == 200 and not both.old.works(f"test -e {RECORD}")
    both.run("site.yml", "--limit", both.old.name, "--tags", "backup")


def test_a_dry_run_shows_the_plan_and_changes_nothing(both: Both) -> None:
    shown = both.run("playbooks/move.yml", *both.pair, "--check")
    assert f"{both.old.name} forwards every request to {both.new.name}" in shown
    for side in (both.old, both.new):
        assert not side.works(f"test -e {RECORD}")
    assert both.ask(both.old)[0] == 200


#: The old server's services have stopped, and the last backup is being made.
PAUSED = Moment("move", "stop.yml", "ansible.builtin.command")


def test_killed_in_the_pause_neither_server_writes(both: Both) -> None:
    kill_at(PAUSED, both.command("playbooks/move.yml", *both.pair), partial(Drill.works, both.old), ROOT, ENVIRONMENT)
    status, headers, _ = both.ask(both.old)
    assert status == 503 and headers["Retry-After"]
    for side, words in ((both.old, "is being moved to"), (both.new, "receives the data of")):
        refused = both.site(side, good=False)
        assert words in refused and f"{side.name} was not changed" in refused
    assert json.loads(both.old.on_host(f"cat {RECORD}"))["state"] == "moving"


def test_the_way_back_from_the_pause_without_the_new_server(both: Both) -> None:
    refused = both.run("playbooks/move_back.yml", *both.pair, "-e", f"move_lost={both.old.name}", good=False)
    assert "Nothing was changed" in refused
    both.run("playbooks/move_back.yml", *both.pair, "-e", f"move_lost={both.new.name}")
    assert both.ask(both.old)[0] == 200
    assert both.old.works("openmates-ready --wait 60")
    assert both.old.held() == both.before


def test_everything_moves_while_a_client_asks(both: Both) -> None:
    address = both.ask(both.old)[2]["client"]
    with Client(both) as client:
        wait_until(lambda: len(client.answers) > 20, "the client is answered")
        shown = both.run("playbooks/move.yml", *both.pair)
        for _ in range(3):
            asked = len(client.answers)
            wait_until(lambda asked=asked: len(client.answers) > asked + 10, "the client is answered")
    wrong, pause = client.judged()
    print(f"{len(client.answers)} requests, {len(wrong)} failed, 503 for {pause:.0f} s: {shown[-900:]}")
    assert not wrong, wrong
    assert client.answers[-1][1] == "200"
    assert both.new.held() == both.before
    # The service sees the client and not the server that forwards.
    for side in (both.old, both.new):
        assert both.ask(side)[2]["client"] == address


def test_tokens_of_the_old_server_are_revoked_on_the_new_one(both: Both) -> None:
    assert both.new.token() != both.token
    assert both.new.vault("GET", "auth/token/lookup-self", None, both.token)[0] == 403


def test_nothing_starts_the_old_server_again(both: Both) -> None:
    assert both.old.on_host(CONTAINERS) == ""
    for verb in ("site.yml", "playbooks/deploy.yml", "playbooks/backup.yml"):
        refused = both.run(verb, "--limit", both.old.name, good=False)
        assert both.new.name in refused and "moved" in refused, verb
    dry = both.site(both.old, "--check", good=False)
    assert "two servers would write" in dry
    both.old.on_host("systemctl restart docker caddy")
    assert both.old.on_host(CONTAINERS) == ""
    wait_until(lambda: both.ask(both.old)[0] == 200, "the old server forwards after a restart")
    for timer in ("openmates-backup.timer", "openmates-heal.service"):
        assert not both.old.works(f"systemctl is-enabled {timer}")


def test_a_websocket_is_passed_on(both: Both) -> None:
    context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
    opened = socket.create_connection((both.addresses[both.old.name], 443), 20)
    with context.wrap_socket(opened, server_hostname=both.domain) as connection:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket"
        head = f"GET /sample/websocket HTTP/1.1\r\nHost: {both.domain}\r\n{upgrade}\r\n{key}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"\x81\x82\0\0\0\0hi")  # a frame of text, masked with zeros
        assert connection.recv(100) == b"\x81\x02hi"


def test_challenges_reach_the_new_server(both: Both) -> None:
    """Its Caddy redirects with another status than the old one's forward does."""
    statuses = {}
    for path in ("/.well-known/acme-challenge/of-the-new-server", "/another"):
        client = http.client.HTTPConnection(both.addresses[both.old.name], 80, timeout=20)
        client.request("GET", path, headers={"Host": both.domain})
        statuses[path] = client.getresponse().status
        client.close()
    assert list(statuses.values()) == [308, 301]


def test_the_new_server_is_what_the_inventory_declares(both: Both) -> None:
    assert "changed=0" in both.site(both.new)


def test_the_way_back_with_what_the_old_server_had(both: Both) -> None:
    both.new.on_host("docker exec openmates-cms-database-1 psql -U directus -qc 'delete from drill where id > 7'")
    shown = both.run("playbooks/move_back.yml", *both.pair)
    assert "is there and not here" in shown
    assert both.old.held() == both.before
    assert both.ask(both.old)[0] == 200
    assert both.ask(both.new)[0] == 503
    assert both.new.on_host(CONTAINERS) == ""
    assert "was given up" in both.site(both.new, good=False)
    assert "changed=0" in both.site(both.old)


#: The new server has all data and is recorded as the one that serves; the old one is about to forward, or does.
FORWARDING = Moment("caddy", "main.yml", "openmates.server.host_files", command=f"grep -q moved {RECORD}")


def test_killed_after_the_restore_nothing_is_restored_again(both: Both) -> None:
    refused = both.run("playbooks/move.yml", *both.pair, good=False)
    assert f"-e restore_replace={both.new.name}" in refused and "serves as before" in refused
    assert both.ask(both.old)[0] == 200
    command = both.command("playbooks/move.yml", *both.pair, "-e", f"restore_replace={both.new.name}")
    kill_at(FORWARDING, command, partial(Drill.works, both.old), ROOT, ENVIRONMENT)
    both.new.on_host("docker exec openmates-cms-database-1 psql -U directus -qc 'delete from drill where id > 7'")
    written = both.new.held()
    assert written != both.before
    shown = both.run("playbooks/move.yml", *both.pair)
    assert "The data was moved by an earlier run" in shown
    assert both.new.held() == written
    assert both.ask(both.old)[0] == 200 and both.old.on_host(CONTAINERS) == ""
