"""What differs from the inventory is named and recorded, and stays as it is until site.yml runs."""

from __future__ import annotations

import json

from lab import Server

DRIFT = """
chmod 666 /etc/ssh/sshd_config.d/*.conf
systemctl stop openmates-heal
timedatectl set-timezone Asia/Tokyo
"""
METRICS = "/var/lib/openmates/metrics/openmates_drift.prom"


def words(run) -> str:
    return " ".join(run.stdout.split())


def test_drift_is_named_and_recorded_and_nothing_else_changes(server: Server) -> None:
    server.run(DRIFT)
    try:
        found = server.playbook("playbooks/drift.yml")
        assert found.returncode != 0 and f"{server.name} has drift, see above" in words(found), found.stdout[-3000:]
        for drifted in ("start openmates-heal.service", "/etc/ssh/sshd_config.d/"):
            assert drifted in found.stdout, found.stdout[-3000:]
        assert not server.host.service("openmates-heal").is_running, "drift.yml has changed it"
        record = json.loads(server.run("cat /var/lib/openmates/drift.json"))["drift"]
        assert len(record) == 3, record
        assert "openmates_drift_tasks 3" in server.run(f"cat {METRICS}").splitlines()
        status = server.playbook("playbooks/status.yml")
        assert status.returncode != 0 and "Drift: 3 tasks of site.yml would change it" in words(status), status.stdout
    finally:
        repaired = server.playbook("site.yml", "--tags", "base,ssh,heal")
    assert repaired.returncode == 0, repaired.stdout[-3000:]
    assert server.run("timedatectl show --property Timezone --value").strip() == "Etc/UTC"
    server.run("rm /var/lib/openmates/drift.json")  # until site.yml runs as a whole, status.yml reports it
