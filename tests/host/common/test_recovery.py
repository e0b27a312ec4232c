"""Running site.yml again repairs drift, and verify detects it."""

from __future__ import annotations

from outside import without_the_table

from lab import STACK, wait_until


def test_a_restarted_vault_is_unsealed_without_an_operator(server):
    began = server.run("date +%s")
    server.run("docker restart openmates-vault-1")  # a Vault that starts is sealed
    journal = f"journalctl --unit=openmates-vault-unseal --since=@{began}"
    wait_until(lambda: "Vault was sealed, and is open again" in server.run(journal), "the server unseals Vault", 90)
    server.wait_until_ready()


def test_a_port_published_by_hand_fails_verify_where_no_firewall_hides_it(server):
    rogue = "services: {cms-database: {ports: ['0.0.0.0:5432:5432']}}"  # without the address it would be loopback's
    server.run(f'cd {STACK} && echo "{rogue}" > rogue.yml')
    override = "-f docker-compose.override.yml" if server.environment == "dev" else ""
    server.compose(f"-f docker-compose.yml {override} -f rogue.yml up -d --no-deps --wait cms-database")
    try:
        with without_the_table(server):
            run = server.playbook("playbooks/verify.yml")
        assert run.returncode != 0
        assert "5432" in run.stdout and "cms-database" in run.stdout
    finally:
        run = server.playbook("site.yml")
    assert run.returncode == 0, run.stdout[-4000:]
    assert not server.host.file(f"{STACK}/rogue.yml").exists
