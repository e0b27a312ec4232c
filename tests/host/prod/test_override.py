"""Development's override file is not on a production server."""

from lab import STACK


def test_a_stray_override_does_not_survive_a_run(server):
    server.run(f"echo 'services: {{grafana: {{ports: [\"3001:3000\"]}}}}' > {STACK}/docker-compose.override.yml")
    run = server.playbook("site.yml")
    assert run.returncode == 0, run.stdout[-4000:]
    assert not server.host.file(f"{STACK}/docker-compose.override.yml").exists
    assert server.run("ss -Hltn sport = :3001") == ""
