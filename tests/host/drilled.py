"""What a drill puts on a server and expects to find again, and the playbooks that it runs there."""

from __future__ import annotations

import json
import os
import subprocess

from lab import ROOT, STACK

ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
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
        return " ".join(self.called(self.command(playbook, *arguments), good).split())

    @staticmethod
    def called(command: list[str], good: bool) -> str:
        """What a command of the operator printed."""
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == good, done.stdout[-6000:] + done.stderr[-1000:]
        return done.stdout

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
