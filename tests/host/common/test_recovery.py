"""Running site.yml again puts things right, and verify sees when they are not."""

from __future__ import annotations

from lab import STACK, wait_until


def test_a_sealed_vault_is_noticed_and_the_next_run_unseals_it(server):
    server.compose("restart vault")
    wait_until(lambda: "vault_token" in server.failing_checks(), "the sealed Vault is noticed", 30)
    run = server.playbook("site.yml")
    assert run.returncode == 0, run.stdout[-4000:]
    assert server.readiness()["ready"]


def test_a_port_published_by_hand_fails_verify_which_names_it(server):
    rogue = "services: {cms-database: {ports: ['0.0.0.0:5432:5432']}}"  # without the address it would be loopback's
    server.run(f'cd {STACK} && echo "{rogue}" > rogue.yml')
    override = "-f docker-compose.override.yml" if server.environment == "dev" else ""
    server.compose(f"-f docker-compose.yml {override} -f rogue.yml up -d --no-deps --wait cms-database")
    try:
        run = server.playbook("playbooks/verify.yml")
        assert run.returncode != 0
        assert "5432" in run.stdout and "cms-database" in run.stdout
    finally:
        run = server.playbook("site.yml")
    assert run.returncode == 0, run.stdout[-4000:]
    assert not server.host.file(f"{STACK}/rogue.yml").exists
