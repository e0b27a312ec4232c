"""The status of a provisioned server: one screen while it is healthy, and each fault named with its remedy."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from lab import Server

FLAG = "/var/lib/openmates-maintenance/flag.json"
BACKUP = "/var/lib/openmates/backup"
LOCK, HISTORY = "/var/lib/openmates/change.lock", "/var/log/openmates/history.jsonl"
PLAYBOOK = "playbooks/status.yml"
SCREEN = (24, 100)


def report(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    """The playbook as `make status` runs it: standard output has the report, standard error the faults."""
    operator = server.operator
    command = ["ansible-playbook", operator.playbook(PLAYBOOK), "-i", operator.inventory, "--limit", server.name]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_STDOUT_CALLBACK": "openmates.server.report",
        "OPENMATES_PROGRESS_EVERY": "0",
    }
    command += arguments
    return subprocess.run(command, cwd=operator.directory, env=environment, capture_output=True, text=True, check=False)


def faults(run: subprocess.CompletedProcess) -> list[str]:
    return [line.removeprefix("- ") for line in run.stderr.splitlines() if line.startswith("- ")]


def test_a_healthy_server_fits_one_screen(server: Server) -> None:
    server.wait_until_ready()
    run = report(server)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) <= SCREEN[0] and max(map(len, lines)) <= SCREEN[1], run.stdout
    assert lines[0].startswith(f"{server.name} ({server.environment}): no faults; last run: ")
    assert re.search(r"^api +healthy +\d+ \w+ +\w+ \d\d[:-]\d\d +\d+/640 \d+ % +0 ", run.stdout, re.MULTILINE)
    assert re.search(r"^ok +vault +active; the services' token is valid for \d+ d", run.stdout, re.MULTILINE)
    assert re.search(rf"^ok +certificate +{server.domain}, \d+ d left", run.stdout, re.MULTILINE)


def test_while_a_run_changes_the_server_it_says_so_and_changes_nothing(server: Server) -> None:
    before = server.run(f"md5sum {HISTORY}; docker ps --no-trunc --quiet")
    note = {"verb": "deploy", "who": "someone@elsewhere", "begun": "2026-11-27T15:00:00Z"}
    kept = server.run(f"cat {LOCK} 2> /dev/null || true")
    server.run(f"printf %s '{json.dumps(note)}' > {LOCK}")
    server.run(f"systemd-run --quiet --unit=status-holds-the-lock flock {LOCK} sleep infinity")
    try:
        run = report(server, "-e", "format=json")
    finally:
        server.run("systemctl stop status-holds-the-lock")
        server.run(f"printf %s '{kept}' > {LOCK}")
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout)
    assert found["ok"] and found["last_run"]["verb"] == "deploy" and found["last_run"]["result"] == "running"
    assert set(found["services"]) >= {"api", "vault", "cms-setup"} and found["ready"]["ready"]
    assert server.run(f"md5sum {HISTORY}; docker ps --no-trunc --quiet") == before


def test_a_sealed_vault_is_the_first_fault_and_what_follows_from_it_comes_later(server: Server) -> None:
    server.run("systemctl stop openmates-vault-unseal.timer openmates-vault-unseal.service")
    try:
        server.run("docker restart openmates-vault-1")
        run = report(server)
    finally:
        server.run("systemctl start openmates-vault-unseal.timer")
        server.wait_until_ready()
    assert run.returncode != 0
    found = faults(run)
    assert found[0].startswith("Vault is sealed") and "site.yml" in found[0], run.stderr
    assert any("not ready" in fault for fault in found[1:]), run.stderr
    assert "SEALED" in run.stdout


@pytest.fixture
def broken(server: Server) -> Iterator[None]:
    """Faults that do not depend on each other."""
    old = 'import json, sys, time; json.dump({"success": True, "problem": "", "ended": "", "last_success": '
    old += '{"seconds": time.time() - 40 * 3600, "time": "", "snapshot": "0123456789"}}, sys.stdout)'
    server.run(f"cp -a {BACKUP} /run/status-backup")
    try:
        server.run(f"python3 -c '{old}' > {BACKUP}/last.json")
        server.run(f"touch {FLAG} /run/reboot-required")
        server.run("systemd-run --quiet --unit=status-fails --property=Type=oneshot false || true")
        server.run("docker stop openmates-grafana-1 && docker pause openmates-loki-1")
        # The kernel kills what takes more than the container's limit, here a process beside the service.
        server.host.run("docker exec openmates-promtail-1 python3 -c 'print(len(b\"x\" * (300 << 20)))'")
        yield
    finally:
        server.run(f"rm -rf {FLAG} /run/reboot-required {BACKUP} && mv /run/status-backup {BACKUP}")
        server.run("systemctl reset-failed status-fails")
        # Restarted: health checks of a paused container fail, and a kill for memory is noted until the next start.
        server.run("docker unpause openmates-loki-1 && docker restart openmates-loki-1 openmates-promtail-1")
        server.run("docker start openmates-grafana-1")


FAULTS = {
    "disk": r"The file system of / is \d+ % full, .* \(limit: 1 %\)",
    "memory": r"Service promtail ran out of memory at its limit of 128M.* openmates_services.promtail.memory",
    "frozen": r"Service loki: it is paused\. ",
    "stopped": r"Service grafana: it is exited, with exit code \d+, for \d+ s\. .*site\.yml.* starts it",
    "maintenance": r"Clients get 503, the server is in maintenance .*maintenance.yml -e state=off",
    "unit": r"The unit status-fails.service has failed",
    "certificate": r"The certificate of api\..* ends in \d+ d and was not renewed \(limit: 100000 d\)",
    "backup": r"The last good backup is 40 h old",
    "reboot": r"A reboot is required.*upgrade\.yml",
}


def test_each_of_nine_faults_is_named_with_its_remedy_the_cause_first(server: Server, broken: None) -> None:
    run = report(server, "-e", "status_disk_percent=1", "-e", "status_certificate_days=100000")
    assert run.returncode != 0
    found = faults(run)
    places = {}
    for name, words in FAULTS.items():
        places[name] = next((number for number, fault in enumerate(found) if re.match(words, fault)), None)
    assert None not in places.values(), f"{places}\n{run.stderr}"
    assert list(places.values()) == sorted(places.values()), run.stderr
    for line in (
        "loki +PAUSED",
        "grafana +EXITED",
        "promtail +HEALTHY",
        "NOT OK +disk",
        "NOT OK +system",
        "NOT OK +backups",
    ):
        assert re.search(f"^{line}", run.stdout, re.MULTILINE), run.stdout
    assert max(map(len, run.stdout.splitlines())) <= SCREEN[1]
    assert "REBOOT REQUIRED" in run.stdout and "MAINTENANCE" in run.stdout


def test_afterwards_it_is_healthy_again(server: Server) -> None:
    server.wait_until_ready()
    run = report(server)
    assert run.returncode == 0, run.stdout + run.stderr
