"""The sample backend detects each disconnected dependency, and verify fails with its name."""

from __future__ import annotations

import pytest

from lab import STACK, wait_until

# Vault is not among them: see test_recovery.py.
STOPPED = {
    "cms": "directus",
    "cache": "cache",
    "task-worker": "worker",
    "task-scheduler": "scheduler",
    "app-sample": "app:app-sample",
}
#: Seconds until it must be noticed: the checks' time-outs, on a busy machine.
NOTICED = 30


@pytest.fixture
def repaired(server):
    """After the test, the api must be ready again."""
    yield
    server.wait_until_ready(180)


@pytest.mark.parametrize("service", sorted(STOPPED))
def test_a_stopped_service_is_noticed(server, repaired, service):
    server.compose(f"stop {service}")
    try:
        seconds = 75 if service == "task-scheduler" else NOTICED  # its heartbeat may be 45 s old
        wait_until(lambda: STOPPED[service] in server.failing_checks(), f"{service} is missed", seconds)
        assert not server.readiness()["ready"]
    finally:
        server.compose(f"start {service}")


def test_a_wrong_token_is_detected_and_repaired(server, repaired):
    token = f"{STACK}/secrets/vault-data/api.token"
    # Otherwise its timer might repair it at the same time.
    server.run("systemctl stop openmates-vault-token.timer openmates-vault-token.service")
    server.run(f"cp -p {token} {token}.aside && printf wrong > {token}")
    try:
        wait_until(lambda: "vault_token" in server.failing_checks(), "the wrong token is noticed", NOTICED)
    finally:
        server.run(f"mv {token}.aside {token} && systemctl start openmates-vault-token.timer")


def test_verify_fails_naming_the_cut_wire(server, repaired):
    server.compose("stop task-worker")
    try:
        wait_until(lambda: "worker" in server.failing_checks(), "the worker is missed", NOTICED)
        run = server.playbook("playbooks/verify.yml", "-e", "verify_ready_timeout=5")
        assert run.returncode != 0
        assert "worker" in run.stdout and "task-worker" in run.stdout
    finally:
        server.compose("start task-worker")
