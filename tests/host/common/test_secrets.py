"""Secrets are where they belong, and nowhere else on the host."""

from __future__ import annotations

import hashlib
import json

import pytest

from lab import STACK


@pytest.fixture(scope="module")
def operator_secrets(server) -> dict[str, str]:
    return server.operator.secrets()


@pytest.fixture(scope="module")
def vault_keys(server) -> dict:
    return server.operator.vault_keys(server.name)


def test_secret_files_are_closed(server):
    files = server.run(f"find {STACK}/secrets -type f -printf '%m %p\\n'").splitlines()
    assert len(files) > 15
    assert [line for line in files if not line.startswith("400 ")] == []
    assert server.run(f"stat -c '%a %U' {STACK}/secrets") == "700 root"


def test_no_secret_is_in_docker_inspect(server, operator_secrets):
    inspected = json.dumps(server.containers())
    token = server.run(f"cat {STACK}/secrets/vault-data/api.token")
    shown = [name for name, value in {**operator_secrets, "api.token": token}.items() if str(value) in inspected]
    assert shown == []


def test_vault_keys_are_nowhere_on_the_host(server, vault_keys):
    """Not in a file, a log of a container or the journal. Vault's own storage holds them only encrypted."""
    searches = [
        "grep -rIlF -e '{}' /opt /etc /root /home /tmp /var/log /var/tmp /var/lib/docker/containers || true",
        "journalctl --no-pager | grep -cF -e '{}' | grep -v '^0$' || true",
    ]
    for secret in [vault_keys["root_token"], *vault_keys["unseal_shares"]]:
        for search in searches:
            assert server.run(search.format(secret)) == ""


def test_no_secret_is_in_the_most_verbose_output_or_the_journal(server, operator_secrets, vault_keys):
    server.run(f"rm {STACK}/secrets/grafana/ADMIN_PASSWORD")  # so that the run has a secret to write
    run = server.playbook("site.yml", "-vvv", "--diff", "-e", "ansible_inject_invocation=true")
    assert run.returncode == 0, run.stdout[-4000:]
    token = server.run(f"cat {STACK}/secrets/vault-data/api.token")
    shares = {f"share {number}": share for number, share in enumerate(vault_keys["unseal_shares"])}
    seed = hashlib.sha256(f"sample{operator_secrets['openmates_internal_api_token']}".encode()).hexdigest()
    secrets = {**operator_secrets, **shares, "seed": seed, "root token": vault_keys["root_token"], "api.token": token}
    output = run.stdout + run.stderr  # ANSIBLE_VERBOSE_TO_STDERR, which Molecule sets, decides which of the two
    seen = output + server.run("journalctl --no-pager --boot")
    assert '"invocation": {"module_args"' in output, "the modules' raw answers are not in the output"
    assert [name for name, value in secrets.items() if str(value) in seen] == []


def test_the_search_for_keys_would_find_one(server):
    planted = "planted-on-purpose"
    server.run(f"echo {planted} > /var/tmp/planted")
    try:
        assert server.run(f"grep -rIlF -e {planted} /var/tmp") == "/var/tmp/planted"
    finally:
        server.run("rm /var/tmp/planted")


def test_the_services_token_is_what_the_contract_asks_for(server):
    lookup = (
        "import json,urllib.request as r;"
        "q=r.Request('http://vault:8200/v1/auth/token/lookup-self',headers={'X-Vault-Token':open('/vault-data/api.token').read()});"
        "print(json.dumps(json.load(r.urlopen(q))['data']))"
    )
    token = json.loads(server.compose(f'exec -T api python3 -c "{lookup}"'))
    assert token["orphan"] and token["renewable"] and token["period"] >= 24 * 3600
    assert set(token["policies"]) - {"default"} == {"api-encryption", "api-service"}
