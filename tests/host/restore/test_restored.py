"""A server is lost with all it held; a new one gets everything back from a backup, with one command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import pytest
from killing import kill_at
from moments import Moment

from lab import ROOT, STACK, Operator

ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
REPOSITORY = "/srv/openmates-backup"  # as inventories/lab has it; the drill carries it to the new server
VOLUMES = "/var/lib/docker/volumes"
#: An upload, a compliance log, rows and a pending order.
SEED = r"""
set -eu
head -c 3000000 /dev/urandom > /tmp/drill.jpg
install -o 1000 -g 1000 -m 0640 -D /tmp/drill.jpg %(volumes)s/openmates-cms-uploads/_data/drill.jpg
install -o 1000 -g 1000 -m 0600 -D /dev/stdin \
  %(volumes)s/openmates-api-logs/_data/drill-compliance.log <<< 'consent given'
docker exec -i openmates-cms-database-1 psql -U directus -qv ON_ERROR_STOP=1 <<'SQL'
drop table if exists drill;
create table drill (id int primary key, text text, paid numeric, at timestamptz, raw bytea);
insert into drill select i, 'row ' || i, i / 3.0, '2026-11-27 03:00+02', decode(md5(i::text), 'hex')
  from generate_series(1, 5000) i;
SQL
docker exec openmates-cache-1 \
  sh -c 'REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) redis-cli set order:drill pending'
"""
CALL = """
import json, sys, urllib.error, urllib.request
method, path, body, token = json.load(sys.stdin)
request = urllib.request.Request("http://172.30.0.14:8200/v1/" + path, method=method)
request.data = None if body is None else json.dumps(body).encode()
if token:
    request.add_header("X-Vault-Token", token)
try:
    print(json.dumps([200, json.loads(urllib.request.urlopen(request).read() or b"{}")]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, {}]))
"""


class Drill:
    """The server by its name, which outlives the machine."""

    def __init__(self, host) -> None:
        self.host = host
        self.container = host.backend.name
        self.name = self.container.removeprefix("openmates-lab-")

    def on_host(self, command: str) -> str:
        return self.host.check_output(command)

    def works(self, command: str) -> bool:
        return self.host.run(command).rc == 0

    def command(self, playbook: str, *arguments: str) -> list[str]:
        return ["ansible-playbook", playbook, "-i", "inventories/lab", "--limit", self.name, *arguments]

    def playbook(self, playbook: str, *arguments: str, good: bool = True) -> str:
        done = subprocess.run(
            self.command(playbook, *arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == good, done.stdout[-6000:] + done.stderr[-1000:]
        return " ".join(done.stdout.split())

    def lab(self, playbook: str) -> None:
        command = ["ansible-playbook", f"lab/playbooks/{playbook}", "-i", "inventories/lab", "--limit"]
        done = subprocess.run(
            [*command, f"localhost,{self.name}"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]

    def vault(self, method: str, path: str, body: dict | None, token: str = "") -> tuple[int, dict]:
        call = json.dumps([method, path, body, token])
        status, answer = json.loads(self.on_host(f"printf %s '{call}' | python3 -c '{CALL}'"))
        return status, answer

    def token(self) -> str:
        return self.on_host(f"cat {STACK}/secrets/vault-data/api.token").strip()

    def login(self) -> dict:
        return json.loads(
            self.on_host(
                "systemd-creds decrypt --name=openmates-vault-backup /etc/credstore.encrypted/openmates-vault-backup -"
            )
        )

    def held(self) -> dict:
        """What has to come back, as it can be seen from outside of the program that restores it."""
        files = (
            f"{VOLUMES}/openmates-cms-uploads/_data/drill.jpg {VOLUMES}/openmates-api-logs/_data/drill-compliance.log"
        )
        ask = "select count(*), md5(string_agg(t::text, chr(10) order by id)) from drill t"
        accounts = "select count(*), md5(string_agg(id::text, chr(10) order by id)) from directus_users"
        psql = "docker exec openmates-cms-database-1 psql -U directus -qAtc"
        cache = "REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) redis-cli get order:drill"
        _, secret = self.vault("GET", "kv/data/chat-aes-keys/drill", None, self.token())
        _, text = self.vault("PUT", "transit/decrypt/drill", {"ciphertext": self.ciphertext}, self.token())
        return {
            "files": self.on_host(f"sha256sum {files} && stat -c '%u %g %a' {files}"),
            "rows": self.on_host(f'{psql} "{ask}"'),
            "accounts": self.on_host(f'{psql} "{accounts}"'),
            "order": self.on_host(f"docker exec openmates-cache-1 sh -c '{cache}'").strip(),
            "secret": secret["data"]["data"],
            "text": text["data"]["plaintext"],
        }

    def seed(self) -> None:
        self.on_host(f"bash <<'SEED'\n{SEED % {'volumes': VOLUMES}}\nSEED")
        token = self.token()
        self.vault("PUT", "kv/data/chat-aes-keys/drill", {"data": {"key": "of a chat"}}, token)
        self.vault("PUT", "transit/keys/drill", {}, token)
        _, answer = self.vault("PUT", "transit/encrypt/drill", {"plaintext": "ZHJpbGw="}, token)
        self.ciphertext = answer["data"]["ciphertext"]


@pytest.fixture(scope="module")
def drill(host) -> Iterator[Drill]:
    """A server with a backup, and what it holds."""
    made = Drill(host)
    keys = Operator().keys
    if not made.works("docker volume inspect openmates-vault-data"):  # an earlier drill removed it: new keys, too
        for file in keys.glob(f"{made.name}.*"):
            file.unlink()
    made.playbook("site.yml")
    made.seed()
    made.old_token, made.old_login = made.token(), made.login()
    made.before = made.held()
    made.playbook("playbooks/backup.yml")
    yield made


@pytest.fixture(scope="module")
def lost(drill: Drill, tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """The server is lost, a new one has its address; the repository and the operator's keys were elsewhere."""
    kept, keys = tmp_path_factory.mktemp("kept"), Operator().keys
    subprocess.run(["docker", "cp", "--quiet", f"{drill.container}:{REPOSITORY}", kept / "repository"], check=True)
    files = list(keys.glob(f"{drill.name}.yml"))
    assert files, "the keys are what a restore cannot do without"
    for file in files:
        shutil.copy2(file, kept)
    drill.lab("destroy.yml")
    drill.lab("create.yml")
    for file in files:
        shutil.copy2(kept / file.name, keys)
    subprocess.run(["docker", "cp", "--quiet", kept / "repository", f"{drill.container}:{REPOSITORY}"], check=True)
    drill.on_host(f"chown -R root:root {REPOSITORY}")
    return drill


def test_a_new_server_gets_everything_back(lost: Drill) -> None:
    """Provisioning ends where Vault is empty; the restore needs no word, because nothing is replaced."""
    stopped = lost.playbook("site.yml", good=False)
    assert "with restore.yml" in stopped
    begun = time.monotonic()
    shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest")
    print(f"restored in {time.monotonic() - begun:.0f} s, {lost.on_host(f'du -sh {REPOSITORY}').split()[0]}")
    assert lost.held() == lost.before
    for part in ("vault", "cms-database", "cache", "cms-uploads", "api-logs"):
        assert f"- {part}: from 2" in shown
    assert "replaces what is there" not in shown


def test_the_api_is_ready_and_clients_are_let_in(lost: Drill) -> None:
    assert lost.works("openmates-ready --wait 60")
    for left in ("/var/lib/openmates/backup/restore", "/var/lib/openmates-maintenance/flag.json"):
        assert not lost.works(f"ls -d {left}")
    assert "changed=0" in lost.playbook("site.yml")


def test_tokens_and_logins_of_the_snapshot_are_revoked(lost: Drill) -> None:
    assert lost.token() != lost.old_token
    assert lost.vault("GET", "auth/token/lookup-self", None, lost.old_token)[0] == 403
    assert lost.vault("PUT", "auth/approle/login", lost.old_login)[0] == 400
    assert lost.vault("PUT", "auth/approle/login", lost.login())[0] == 200


def test_data_is_not_replaced_without_the_word(lost: Drill) -> None:
    for arguments, reason in (
        ([], f"-e restore_replace={lost.name}"),
        (["-e", "restore_replace=another"], "restore_replace names another"),
        (["-e", "snapshot=0123456789"], "has no snapshot 0123456789"),
        (["-e", "only=cms-databse"], "no part of this snapshot: cms-databse"),
        (["-e", "restore_from=another"], "has no snapshot of another"),
    ):
        shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest", *arguments, good=False)
        assert reason in shown and "was not changed" in shown
    assert lost.held() == lost.before


def test_one_part_comes_back_and_the_others_stay(lost: Drill) -> None:
    lost.on_host(f"rm {VOLUMES}/openmates-cms-uploads/_data/drill.jpg")
    word = ["-e", "snapshot=latest", "-e", "only=cms-uploads", "-e", f"restore_replace={lost.name}"]
    dry = lost.playbook("playbooks/restore.yml", *word, "--check")
    assert "- cms-uploads:" in dry and not lost.works(f"test -e {VOLUMES}/openmates-cms-uploads/_data/drill.jpg")
    database = "docker inspect --format {{.State.StartedAt}} openmates-cms-database-1"
    started = lost.on_host(database)
    lost.playbook("playbooks/restore.yml", *word)
    assert lost.held() == lost.before and lost.on_host(database) == started


#: Vault is restored, and the database or what follows is being replaced.
KILLED = Moment(
    "restore",
    "main.yml",
    "openmates.server.watched_script",
    command="test -e /var/lib/openmates/backup/restore/under-way.json",
)


def test_killed_in_the_middle_and_repeated(lost: Drill) -> None:
    word = ["-e", "snapshot=latest", "-e", f"restore_replace={lost.name}"]
    lost.on_host("docker exec openmates-cms-database-1 psql -U directus -qc 'delete from drill where id > 7'")
    kill_at(KILLED, lost.command("playbooks/restore.yml", *word), partial(Drill.works, lost), ROOT, ENVIRONMENT)
    refused = lost.playbook("playbooks/backup.yml", good=False)
    assert "has not ended, so nothing is backed up" in refused
    shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest")
    assert "this one goes on" in shown
    assert lost.held() == lost.before
    lost.playbook("playbooks/backup.yml")
