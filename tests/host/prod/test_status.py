"""The status of a provisioned server: one screen while it is healthy, and each fault named with its remedy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t

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


OLD_BACKUP = (
    'import json, sys, time; json.dump({"success": True, "problem": "", "ended": "", "last_success": '
    '{"seconds": time.time() - 40 * 3600, "time": "", "snapshot": "0123456789"}}, sys.stdout)'
)
# The kernel prefers the service itself to the process that takes more than the container's limit.
OUT_OF_MEMORY = """
echo 1000 > /proc/$(docker inspect --format '{{.State.Pid}}' openmates-promtail-1)/oom_score_adj
docker exec openmates-promtail-1 python3 -c 'print(len(b"x" * (300 << 20)))'
restarted() { docker inspect --format '{{.RestartCount}} {{.State.Running}}' openmates-promtail-1; }
until [ "$(restarted)" = "1 true" ]; do sleep 0.2; done
"""
PAUSED = "docker pause openmates-loki-1", "docker unpause openmates-loki-1 && docker restart openmates-loki-1"


class Fault(t.NamedTuple):
    """How a fault is induced and repaired, how its text begins, its line of the table, and arguments for the run."""

    induce: str
    repair: str
    text: str
    line: str
    arguments: tuple[str, ...] = ()


FAULTS = {
    "stopped": Fault(
        "docker stop openmates-grafana-1",
        "docker start openmates-grafana-1",
        r"Service grafana: it is exited, with exit code \d+, for \d+ s\. .*site\.yml.* starts it",
        "grafana +EXITED",
    ),
    "frozen": Fault(*PAUSED, r"Service loki: it is paused\. .*unpause loki", "loki +PAUSED"),
    "restarted for memory": Fault(
        OUT_OF_MEMORY,
        "cd /opt/openmates && docker compose up --detach --no-deps --force-recreate promtail",
        r"Service promtail ran out of memory at its limit of 128M, and was restarted once\. .*promtail\.memory",
        "promtail +(STARTING|HEALTHY)",
    ),
    "maintenance": Fault(
        f"install -D /dev/null {FLAG}",
        f"rm {FLAG}",
        r"Clients get 503, the server is in maintenance .*maintenance\.yml -e state=off",
        "NOT OK +ready .*MAINTENANCE",
    ),
    "failed unit": Fault(
        "systemd-run --quiet --unit=status-fails --property=Type=oneshot false || true",
        "systemctl reset-failed status-fails",
        r"The unit status-fails\.service has failed\. .*journalctl -u status-fails",
        "NOT OK +system +1 FAILED UNITS",
    ),
    "reboot": Fault(
        "touch /run/reboot-required",
        "rm /run/reboot-required",
        r"A reboot is required\..*upgrade\.yml",
        "NOT OK +system .*REBOOT REQUIRED",
    ),
    "disk": Fault(
        "true",
        "true",
        r"The file system of / is \d+ % full, \d+ GB are free \(limit: 1 %\)",
        "NOT OK +disk",
        ("-e", "status_disk_percent=1"),
    ),
    "certificate": Fault(
        "true",
        "true",
        r"The certificate of api\..* ends in \d+ d and was not renewed \(limit: 100000 d\)",
        "NOT OK +certificate",
        ("-e", "status_certificate_days=100000"),
    ),
    "backup": Fault(
        f"cp -a {BACKUP}/last.json /run/status-last && python3 -c '{OLD_BACKUP}' > {BACKUP}/last.json",
        f"mv /run/status-last {BACKUP}/last.json",
        r"The last good backup is 40 h old, and there should be one each day\. `backup\.yml`",
        "NOT OK +backups",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_remedy(server: Server, name: str) -> None:
    fault = FAULTS[name]
    try:
        server.run(fault.induce)
        run = report(server, *fault.arguments)
    finally:
        server.run(fault.repair)
    assert run.returncode != 0
    found = faults(run)
    assert found and re.match(fault.text, found[0]), run.stderr
    # The lab's disk is one, under two names.
    assert all("The file system of" in other for other in found[1:]), run.stderr
    assert re.search(f"^{fault.line}", run.stdout, re.MULTILINE), run.stdout
    assert max(map(len, run.stdout.splitlines())) <= SCREEN[1], run.stdout


def test_afterwards_it_is_healthy_again(server: Server) -> None:
    server.wait_until_ready()
    run = report(server)
    assert run.returncode == 0, run.stdout + run.stderr
