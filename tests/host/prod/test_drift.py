"""What differs from the inventory is named and recorded, stays as it is until site.yml runs, and is put right by it.

The same of Vault's policies and seeds is in tests/integration/test_vault_role.py, of Directus's permissions and
settings in tests/host/dev/test_directus_drills.py, and of a published port in tests/host/common/test_recovery.py.
"""

from __future__ import annotations

import json

from lab import STACK, Server

METRICS = "/var/lib/openmates/metrics/openmates_drift.prom"
SITE = "sed -n 's/^\\(api[^ ]*\\) {$/\\1/p' /etc/caddy/Caddyfile"  # the name that Caddy answers for
#: Other containers than the Compose file declares.
REPLACED = """
services:
  cadvisor: {image: "$(docker inspect openmates-promtail-1 --format '{{.Config.Image}}')"}
  promtail: {environment: {BY_HAND: "1"}}
"""

#: What an operator or an intruder might do by hand, and what shows it.
DRIFTS = {
    "file content": ("echo '# by hand' >> /etc/apt/apt.conf.d/52openmates", "cat /etc/apt/apt.conf.d/52openmates"),
    "file mode": ("chmod 666 /etc/ssh/sshd_config.d/00-openmates.conf", "stat -c %a /etc/ssh/sshd_config.d/*.conf"),
    "sysctl": ("sysctl -qw net.ipv4.conf.all.accept_redirects=1", "sysctl net.ipv4.conf.all.accept_redirects"),
    "time zone": ("timedatectl set-timezone Asia/Tokyo", "timedatectl show --property Timezone"),
    # What is changed in the kernel alone, a timer of the server's puts right within seconds.
    "firewall": ("echo '# by hand' >> /etc/openmates/firewall.nft", "cat /etc/openmates/firewall.nft"),
    "unit": ("systemctl stop openmates-heal", "systemctl is-active openmates-heal || true"),
    "timer": (
        "systemctl disable --quiet --now openmates-vault-token.timer",
        "systemctl is-enabled openmates-vault-token.timer; systemctl is-active openmates-vault-token.timer || true",
    ),
    "image": ("", "docker inspect openmates-cadvisor-1 --format '{{.Config.Image}}'"),
    "container environment": (
        f"cd {STACK} && cat > /run/by-hand.yml <<END{REPLACED}END\n"
        "docker compose -f docker-compose.yml -f /run/by-hand.yml up -d --no-deps cadvisor promtail 2>&1",
        "docker inspect openmates-promtail-1 --format '{{json .Config.Env}}'",
    ),
    "Compose file": (
        f"sed -i s/no-new-privileges:true/no-new-privileges:false/ {STACK}/docker-compose.yml",
        f"sha256sum {STACK}/docker-compose.yml",
    ),
    "route": (
        "sed -i 's/X-Frame-Options DENY/X-Frame-Options SAMEORIGIN/' /etc/caddy/Caddyfile && systemctl reload caddy",
        f"name=$({SITE}) && curl -skI --resolve $name:443:127.0.0.1 https://$name/ | grep -i x-frame-options",
    ),
    "administrator's keys": (
        "cat /etc/ssh/ssh_host_ed25519_key.pub >> /home/admin/.ssh/authorized_keys",
        "cat /home/admin/.ssh/authorized_keys",
    ),
}


def words(run) -> str:
    return " ".join(run.stdout.split())


def looks(server: Server) -> dict[str, str]:
    return {name: server.run(look) for name, (_, look) in DRIFTS.items()}


def test_drift_is_named_and_recorded_and_put_right_by_the_next_run(server: Server) -> None:
    before = looks(server)
    # Without this setting the administrator's keys are not the inventory's.
    declared = ["-e", json.dumps({"openmates_ssh_keys": before["administrator's keys"].splitlines()})]
    try:
        for change, _ in DRIFTS.values():
            server.run(change)
        drifted = looks(server)
        assert [name for name in DRIFTS if drifted[name] == before[name]] == [], "these changes had no effect"
        found = server.playbook("playbooks/drift.yml", *declared)
        assert found.returncode != 0 and f"{server.name} has drift, see above" in words(found), found.stdout[-3000:]
        named = (
            "start openmates-heal.service",
            "/etc/ssh/sshd_config.d/",
            "cadvisor",
            "promtail",
            "docker-compose.yml",
        )
        assert [name for name in named if name not in found.stdout] == [], found.stdout[-3000:]
        assert looks(server) == drifted, "drift.yml has changed something"
        record = json.loads(server.run("cat /var/lib/openmates/drift.json"))["drift"]
        assert f"openmates_drift_tasks {len(record)}" in server.run(f"cat {METRICS}").splitlines()
        status = server.playbook("playbooks/status.yml")
        line = f"Drift: {len(record)} tasks of site.yml would change it"
        assert status.returncode != 0 and line in words(status), status.stdout
    finally:
        repaired = server.playbook("site.yml", *declared)
    assert repaired.returncode == 0, repaired.stdout[-3000:]
    after = looks(server)
    assert {name: after[name] for name in DRIFTS if after[name] != before[name]} == {}
