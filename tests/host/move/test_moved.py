"""A server moves to another one while clients read and write steadily; killed at five moments; the way back.

The old server is the host under test, the new one is real1 (MOVE_TO). Both mount one directory for the backups.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import testinfra
from drilled import ENVIRONMENT, Drill
from killing import kill_at
from moments import MOVE, Moment

from lab import ROOT, STACK, Operator, inventory, wait_until

#: The units of a server that is left: after a reboot none of them may start.
LEFT = (
    *("openmates-backup.timer", "openmates-heal.service"),
    *("openmates-vault-token.timer", "openmates-vault-unseal.timer"),
)
CONTAINERS = "docker ps --quiet --filter label=com.docker.compose.project=openmates"
RECORD = "/var/lib/openmates/move.json"
CLIENTS, EVERY = 10, 0.2  # so many ask, each after so many seconds: 50 requests per second
LONGEST_PAUSE = 30  # seconds
WRITER = Path(__file__).with_name("writer.py").read_text()


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

    def connection(self, side: Drill) -> http.client.HTTPSConnection:
        """By the public name, to the address of one of the servers."""
        context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
        client = http.client.HTTPSConnection(self.domain, timeout=60)
        opened = socket.create_connection((self.addresses[side.name], 443), 20)
        client.sock = context.wrap_socket(opened, server_hostname=self.domain)
        return client

    def ask(self, side: Drill, method: str = "GET", path: str = "/whoami") -> tuple[int, dict[str, str], dict]:
        """One request."""
        client = self.connection(side)
        try:
            client.request(method, path, body=b"x" * 2000 if method == "POST" else None)
            answer = client.getresponse()
            text = answer.read()
            return answer.status, dict(answer.headers), json.loads(text) if text.startswith(b"{") else {}
        finally:
            client.close()


class Client(threading.Thread):
    """Asks steadily over one connection, reading and writing by turns, and keeps each answer."""

    def __init__(self, both: Both, answers: list[tuple[float, str, bool]], ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.both, self.answers, self.ended = both, answers, ended
        self.connection: http.client.HTTPSConnection | None = None

    def run(self) -> None:
        number = 0
        while not self.ended.wait(EVERY):
            number += 1
            at = time.time()
            try:
                self.answers.append((at, *self.ask(*(("GET", "/whoami"), ("POST", "/received"))[number % 2])))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((at, repr(error), False))
                self.close()

    def ask(self, method: str, path: str) -> tuple[str, bool]:
        if self.connection and select.select([self.connection.sock], [], [], 0)[0]:
            self.close()  # the server has closed it while it was idle, as Caddy does when it loads a configuration
        self.connection = self.connection or self.both.connection(self.both.old)
        self.connection.request(method, path, body=b"x" * 2000 if method == "POST" else None)
        answer = self.connection.getresponse()
        answer.read()
        if answer.will_close:
            self.close()
        return str(answer.status), "Retry-After" in answer.headers

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None


class Clients:
    """50 requests per second."""

    def __init__(self, both: Both) -> None:
        self.answers: list[tuple[float, str, bool]] = []
        self.ended = threading.Event()
        self.threads = [Client(both, self.answers, self.ended) for _ in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(60)

    def judged(self) -> tuple[list[str], float]:
        """What is neither good nor the answer of maintenance, and for how many seconds that was given."""
        closed = sorted(at for at, said, retry in self.answers if said == "503" and retry)
        wrong = [
            f"{time.strftime('%H:%M:%S', time.gmtime(at))} {said}"
            for at, said, retry in self.answers
            if said != "200" and not (said == "503" and retry)
        ]
        return wrong, (closed[-1] - closed[0] if closed else 0.0)


class Writer:
    """Writes to Directus on the old server, from beside it, because its port is not published."""

    def __init__(self, both: Both) -> None:
        run, address = both.old.on_host, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        about = [
            run(f"docker inspect --format '{address}' openmates-cms-1").strip(),
            run("docker exec openmates-api-1 printenv DATABASE_ADMIN_EMAIL").strip(),
        ]
        self.password = run(f"cat {STACK}/secrets/api/DATABASE_ADMIN_PASSWORD")
        self.command = ["docker", "exec", "--interactive", both.old.container, "python3", "-c", WRITER, *about]

    def __enter__(self) -> Writer:
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=self.output, text=True)
        self.process.stdin.write(f"{self.password}\n")
        self.process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(60)

    def acknowledged(self) -> set[str]:
        self.output.seek(0)
        return set(self.output.read().split())


class Late(threading.Thread):
    """Does something on the old server as soon as the new one is about to receive the copy."""

    def __init__(self, both: Both, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.both, self.work, self.done, self.ended = both, work, False, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(2):
            if self.both.new.works(f"grep -q preparing {RECORD}"):
                self.work()
                self.done = True
                return

    def __enter__(self) -> Late:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join(60)


@pytest.fixture(scope="module")
def both(host, memory) -> Both:
    """The old server runs and holds data; the new one is provisioned up to where Vault is empty."""
    made, seeded = Both(host), memory["seeded"]
    if not seeded:
        keys = Operator().keys
        for side in (made.old, made.new):
            if not side.works("docker volume inspect openmates-vault-data"):
                for file in keys.glob(f"{side.name}.*"):
                    file.unlink()
        made.site(made.old)
        made.old.seed()
        seeded |= {"before": made.old.held(), "ciphertext": made.old.ciphertext, "token": made.old.token()}
        memory.save()
    made.before, made.token = seeded["before"], seeded["token"]
    made.old.ciphertext = made.new.ciphertext = seeded["ciphertext"]
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


def killed(both: Both, moment: Moment, side: Drill) -> None:
    """The word is needed after the way back only."""
    command = both.command("playbooks/move.yml", *both.pair, "-e", f"restore_replace={both.new.name}")
    kill_at(moment, command, partial(Drill.works, side), ROOT, ENVIRONMENT)


@pytest.mark.parametrize("moment", ["copy-restored", "all-but-workers-starts"])
def test_killed_before_the_pause_the_old_server_serves(both: Both, moment: str) -> None:
    killed(both, MOVE[moment], both.new)
    assert both.ask(both.old)[0] == 200 and both.old.works("openmates-ready")
    assert not both.old.works(f"test -e {RECORD}")
    assert json.loads(both.new.on_host(f"cat {RECORD}"))["state"] == "preparing"
    assert not both.new.works("docker ps | grep -q task-")
    assert both.ask(both.new)[0] == 503


def test_a_copy_that_is_given_up_does_no_harm_and_says_what_it_is(both: Both) -> None:
    refused = both.site(both.new, good=False)
    assert f"holds a copy of {both.old.name}'s data" in refused and "was not changed" in refused
    assert "holds a copy" in both.run("playbooks/status.yml", "--limit", both.new.name)
    assert "serves in place of this server" in both.new.host.run("openmates-backup run").stdout
    both.new.on_host("systemctl restart docker")
    assert not both.new.works("docker ps | grep -q task-")
    assert "changed=0" in both.site(both.old)


def test_killed_in_the_pause_neither_server_writes(both: Both) -> None:
    killed(both, MOVE["handed-over"], both.old)
    status, headers, _ = both.ask(both.old)
    assert status == 503 and headers["Retry-After"]
    for side, words in ((both.old, "is being moved to"), (both.new, "receives the data of")):
        refused = both.site(side, good=False)
        assert words in refused and f"{side.name} was not changed" in refused
    assert json.loads(both.old.on_host(f"cat {RECORD}"))["state"] == "moving"


def test_killed_while_the_new_server_takes_over_neither_writes(both: Both) -> None:
    killed(both, MOVE["taken-over"], both.new)
    assert [both.ask(side)[0] for side in (both.old, both.new)] == [503, 503]
    assert not both.old.works("docker ps | grep -q openmates-api")


def test_the_way_back_from_the_pause_without_the_new_server(both: Both) -> None:
    refused = both.run("playbooks/move_back.yml", *both.pair, "-e", f"move_lost={both.old.name}", good=False)
    assert "Nothing was changed" in refused
    both.run("playbooks/move_back.yml", *both.pair, "-e", f"move_lost={both.new.name}")
    assert both.ask(both.old)[0] == 200
    assert both.old.works("openmates-ready --wait 60")
    assert both.old.held() == both.before


def test_everything_moves_while_clients_ask_and_write(both: Both) -> None:
    address = both.ask(both.old)[2]["client"]
    writer = Writer(both)
    with writer, Clients(both) as clients:
        wait_until(lambda: len(clients.answers) > 200, "clients are answered")
        shown = both.run("playbooks/move.yml", *both.pair)
        asked = len(clients.answers)
        wait_until(lambda: len(clients.answers) > asked + 200, "clients are answered")
    wrong, pause = clients.judged()
    acknowledged = writer.acknowledged()
    psql = "docker exec openmates-cms-database-1 psql -U directus -qAtc"
    arrived = set(both.new.on_host(f"{psql} \"select code from invite_codes where code like 'drill-%'\"").split())
    lost = acknowledged - arrived
    seen = f"503 for {pause:.0f} s, {len(wrong)} of {len(clients.answers)} requests failed otherwise, "
    seen += f"{len(lost)} of {len(acknowledged)} acknowledged writes lost; load {os.getloadavg()[0]:.0f}"
    result = "failed" if wrong or lost or pause > LONGEST_PAUSE else "passed"
    subprocess.run([ROOT / "lab/proofs.py", "record", "move under load", result, "--detail", seen], check=True)
    print(f"{seen}\n{shown[-900:]}")
    assert not wrong, wrong
    assert len(acknowledged) > 500 and not lost, sorted(lost)[:10]
    assert pause <= LONGEST_PAUSE
    assert sorted(clients.answers)[-1][1] == "200"
    assert both.new.held() == both.before
    # The service sees the client and not the server that forwards.
    for side in (both.old, both.new):
        assert both.ask(side)[2]["client"] == address


def test_tokens_of_the_old_server_are_revoked_on_the_new_one(both: Both) -> None:
    assert both.new.token() != both.token
    assert both.new.vault("GET", "auth/token/lookup-self", None, both.token)[0] == 403


def test_nothing_starts_the_old_server_again(both: Both) -> None:
    assert both.old.on_host(CONTAINERS) == ""
    new = both.new.name
    verbs = {
        **dict.fromkeys(("site.yml", "playbooks/deploy.yml"), f"moved to {new}"),
        "playbooks/backup.yml": f"{new} serves in place of this server",
    }
    for verb, words in verbs.items():
        assert words in both.run(verb, "--limit", both.old.name, good=False), verb
    dry = both.site(both.old, "--check", good=False)
    assert "two servers would write" in dry
    both.old.on_host("systemctl restart docker caddy")
    assert both.old.on_host(CONTAINERS) == ""
    wait_until(lambda: both.ask(both.old)[0] == 200, "the old server forwards after a restart")
    enabled = both.old.on_host("systemctl list-unit-files --state=enabled --no-legend 'openmates-*'")
    assert not {line.split()[0] for line in enabled.splitlines()} & set(LEFT)


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


def test_after_the_way_back_a_move_needs_a_word(both: Both) -> None:
    refused = both.run("playbooks/move.yml", *both.pair, good=False)
    assert f"-e restore_replace={both.new.name}" in refused and "serves as before" in refused
    assert both.ask(both.old)[0] == 200


def test_killed_after_the_restore_nothing_is_restored_again(both: Both) -> None:
    key = {"data": {"key": "of a chat that began after the copy"}}
    late = Late(both, lambda: both.old.vault("PUT", "kv/data/chat-aes-keys/late", key, both.old.token()))
    with late:
        killed(both, MOVE["forwarded"], both.old)
    assert late.done
    token = both.new.token()
    assert both.new.vault("GET", "kv/data/chat-aes-keys/late", None, token)[1]["data"]["data"] == key["data"]
    assert token != both.old.token()
    assert both.new.vault("GET", "auth/token/lookup-self", None, both.old.token())[0] == 403
    both.new.on_host("docker exec openmates-cms-database-1 psql -U directus -qc 'delete from drill where id > 7'")
    written = both.new.held()
    assert written != both.before
    shown = both.run("playbooks/move.yml", *both.pair)
    assert "The data was moved by an earlier run" in shown
    assert both.new.held() == written
    assert both.ask(both.old)[0] == 200 and both.old.on_host(CONTAINERS) == ""
