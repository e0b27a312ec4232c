"""What differs from the inventory is named and recorded, and stays as it is until site.yml runs."""

from __future__ import annotations

import json

from lab import Server, recap

DRIFT = """
chmod 666 /etc/ssh/sshd_config.d/*.conf
systemctl stop openmates-heal
timedatectl set-timezone Asia/Tokyo
"""
TAGS = ("--tags", "base,ssh,heal")
METRICS = "/var/lib/openmates/metrics/openmates_drift.prom"


def test_drift_is_named_and_recorded_and_nothing_else_changes(server: Server) -> None:
    server.run(DRIFT)
    try:
        found = server.playbook("playbooks/drift.yml", *TAGS)
        assert found.returncode != 0 and recap(found.stdout)["changed"] > 0, found.stdout[-3000:]
        assert "start openmates-heal.service" in found.stdout and "/etc/ssh/sshd_config.d/" in found.stdout
        assert "prod1: DRIFT, 3 tasks of site.yml would change it" in found.stdout, found.stdout[-3000:]
        assert not server.host.service("openmates-heal").is_running, "drift.yml has changed it"
        assert "openmates_drift_tasks 3" in server.run(f"cat {METRICS}").splitlines()
        status = server.playbook("playbooks/status.yml")
        assert status.returncode != 0 and "Drift: 3 tasks of site.yml would change it" in " ".join(
            status.stdout.split()
        )
    finally:
        server.playbook("site.yml", *TAGS)
    none = server.playbook("playbooks/drift.yml", *TAGS)
    assert none.returncode == 0 and "prod1: no drift" in none.stdout, none.stdout[-3000:]
    assert json.loads(server.run("cat /var/lib/openmates/drift.json"))["drift"] == []
