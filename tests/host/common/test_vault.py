"""Vault after a run: each identity has only the permissions that it needs, and the host maintains Vault."""

from __future__ import annotations

import json
import subprocess

import pytest

from lab import STACK

#: As a service in the Docker network asks Vault, with its own token: METHOD path [body].
ASK = """
import json, sys, urllib.error, urllib.request as r
token = open('/vault-data/api.token').read()
for line in sys.stdin:
    method, path, *body = line.split(maxsplit=2)
    q = r.Request('http://vault:8200/v1/' + path, method=method, data=(body[0] if body else '').encode() or None)
    q.add_header('X-Vault-Token', token)
    try:
        print(r.urlopen(q).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
GRANTED = [
    ("GET auth/token/lookup-self", 200),
    ("PUT auth/token/renew-self {}", 200),
    ("GET kv/data/providers/sample", 200),
    ('POST kv/data/user-draft-aes-keys/test {"data": {"key": "x"}}', 200),
    ("GET kv/data/user-draft-aes-keys/test", 200),
    ("DELETE kv/data/user-draft-aes-keys/test", 204),
    ('POST kv/data/chat-aes-keys/test {"data": {"key": "x"}}', 200),
    ("GET sys/mounts/transit", 200),
    ('POST kv/data/providers/vapid {"options": {"cas": 9999}, "data": {"key": "x"}}', 400),  # not that version
    ("POST transit/keys/test-of-policies {}", 200),
    ('POST transit/encrypt/test-of-policies {"plaintext": "eA=="}', 200),
    ('POST transit/hmac/test-of-policies {"input": "eA=="}', 200),
]
REFUSED = [
    'POST kv/data/providers/sample {"data": {"api_key": "x"}}',
    "DELETE kv/data/providers/sample",
    "GET kv/metadata/providers/sample",
    "GET kv/data/elsewhere/x",
    "DELETE kv/data/providers/vapid",
    "GET sys/mounts",
    "GET sys/mounts/kv",
    "POST sys/mounts/transit {}",
    "GET sys/policies/acl/api-service",
    'PUT sys/policies/acl/api-service {"policy": ""}',
    "POST auth/token/create {}",
    "LIST auth/token/accessors",
    "GET auth/approle/role/openmates-api",
    "POST auth/approle/role/openmates-api/secret-id {}",
    "GET sys/storage/raft/snapshot",
    "PUT sys/seal {}",
]


def asked(server, lines: list[str]) -> list[int]:
    """The status of each request that the api makes of Vault."""
    script = f"cd {STACK} && docker compose exec -T api python3 -c '{ASK.replace(chr(39), chr(34))}' <<'END'\n"
    return [int(word) for word in server.run(script + "\n".join(lines) + "\nEND").split()]


def test_the_api_may_do_what_the_contract_lists(server):
    assert asked(server, [line for line, _ in GRANTED]) == [status for _, status in GRANTED]


def test_the_api_may_do_nothing_else(server):
    assert asked(server, REFUSED) == [403] * len(REFUSED)


def test_the_first_root_token_is_revoked(server):
    keys = server.operator.vault_keys(server.name)
    address = server.containers()["vault"]["NetworkSettings"]["Networks"]["openmates"]["IPAddress"]
    curl = ["curl", "-s", "-H", "@-", f"http://{address}:8200/v1/auth/token/lookup-self"]
    answer = subprocess.run(
        ["docker", "exec", "-i", f"openmates-lab-{server.name}", *curl],
        input=f"X-Vault-Token: {keys['root_token']}",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == {"errors": ["permission denied"]}
    assert not server.host.file("/var/lib/openmates/vault-root").exists


@pytest.mark.parametrize("unit", ["unseal", "token"])
def test_the_hosts_units_are_well_and_run_by_their_timers(server, unit):
    name = f"openmates-vault-{unit}"
    assert server.run(f"systemctl is-enabled {name}.timer") == "enabled"
    assert server.run(f"systemctl show {name}.service --property=Result") == "Result=success"
    assert server.run(f"systemd-analyze verify /etc/systemd/system/{name}.* 2>&1 | grep openmates || true") == ""


def test_what_opens_vault_is_encrypted_and_for_root_only(server):
    listed = server.run("stat -c '%a %U %n' /etc/credstore.encrypted/openmates-vault-*").split("\n")
    folder = "/etc/credstore.encrypted/openmates-vault-"
    backup = ["backup"] if server.host.file("/etc/openmates/backup.json").exists else []  # a login of its own
    names = ["api", *backup, "shares"]
    assert listed == [f"600 root {folder}{name}" for name in names]
    for name in names:
        assert "secret_id" not in server.run(f"cat {folder}{name}")


def test_every_request_is_audited_and_no_secret_in_the_clear(server):
    token = server.run(f"cat {STACK}/secrets/vault-data/api.token")
    log = server.run("docker logs --since 5m openmates-vault-1 2>&1")
    assert '"type":"response"' in log and '"path":"kv/data/providers/sample"' in log and "hmac-sha256:" in log
    assert token not in log
