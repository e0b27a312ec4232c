"""A wrong setting never locks the operator out: the former state is restored, by the host if necessary."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from killing import kill_with_all_it_started

from lab import ROOT, recap, wait_until

DROP_IN = "/etc/ssh/sshd_config.d/00-openmates.conf"
RULES = "/etc/openmates/firewall.nft"
SNAPSHOT = "/var/lib/openmates-guard/{}/snapshot.json"
#: Mistakes of an operator: the part of the run, the setting, and text of the message.
REFUSES_THE_ADMINISTRATOR = {"ssh_options": {"AllowGroups": "no-such-group"}, "ssh_rollback_seconds": 40}
CLOSES_SSH = {"openmates_ssh_sources": ["203.0.113.0/24"], "firewall_rollback_seconds": 40}


def settings(values: dict) -> list[str]:
    return ["--extra-vars", json.dumps(values)]


@contextmanager
def an_open_session(server, ssh) -> Iterator[None]:
    """An existing session, which must answer before, during and after."""
    process = subprocess.Popen(
        ssh.command(server.name, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    silent, done = [], threading.Event()

    def talk() -> None:
        while not done.wait(0.5):
            asked = time.monotonic()
            process.stdin.write(f"{asked}\n")
            if process.stdout.readline() != f"{asked}\n" or time.monotonic() - asked > 5:
                silent.append(asked)
                return

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield
    finally:
        done.set()
        talker.join(10)
        process.kill()
        process.wait()
    assert not silent and not talker.is_alive(), "the open session fell silent"


@contextmanager
def logins_all_along(ssh) -> Iterator[None]:
    """New logins, one after the other, each of which must succeed."""
    results, done = [], threading.Event()

    def log_in() -> None:
        while not done.wait(0.2):
            results.append(ssh.works())

    poller = threading.Thread(target=log_in, daemon=True)
    poller.start()
    try:
        yield
    finally:
        done.set()
        poller.join(30)
    assert results and all(results), results


@pytest.fixture(autouse=True)
def nothing_is_different_afterwards(server, ssh) -> Iterator[None]:
    before = {path: server.host.file(path).content for path in (DROP_IN, RULES)}
    table = server.run("nft --stateless list table inet openmates")
    yield
    assert ssh.works()
    assert {path: server.host.file(path).content for path in (DROP_IN, RULES)} == before
    assert server.run("nft --stateless list table inet openmates") == table
    for name in ("ssh", "firewall"):
        assert not server.host.file(SNAPSHOT.format(name)).exists
    guards = "systemctl list-units --plain --no-legend 'openmates-guard@*' --state="
    wait_until(lambda: server.run(f"{guards}active") == "", "no guard is left", 20)
    assert server.run(f"{guards}failed") == ""


def test_a_broken_configuration_never_reaches_sshd(server, ssh):
    read = "systemctl show ssh --property=StateChangeTimestampMonotonic --value"
    before = server.run(read)
    with an_open_session(server, ssh), logins_all_along(ssh):
        run = server.playbook("site.yml", "--tags", "ssh", *settings({"ssh_options": {"NoSuchOption": "yes"}}))
    assert run.returncode != 0 and "NoSuchOption" in run.stdout and "in effect the whole time" in run.stdout
    assert server.run(read) == before


def test_broken_rules_never_reach_the_kernel(server, ssh):
    with an_open_session(server, ssh), logins_all_along(ssh):
        run = server.playbook(
            "site.yml", "--tags", "firewall", *settings({"firewall_closed_to_containers": ["no address"]})
        )
    assert run.returncode != 0 and "was refused" in run.stdout and "in effect the whole time" in run.stdout


@pytest.mark.parametrize(
    ("part", "mistake", "reason"),
    [("ssh", REFUSES_THE_ADMINISTRATOR, "Permission denied"), ("firewall", CLOSES_SSH, "timed out")],
)
def test_a_change_that_locks_the_administrator_out_is_reverted(server, ssh, part, mistake, reason):
    with an_open_session(server, ssh):
        run = server.playbook("site.yml", "--tags", part, *settings(mistake))
    assert run.returncode != 0
    for words in (
        "admin could not log in",
        reason,
        "rolled back at once",
        "can log in as before",
        "Correct openmates_",
    ):
        assert words in " ".join(run.stdout.split()), run.stdout[-2000:]
    wait_until(ssh.works, "the administrator can log in", 20)  # sshd may just be reading its configuration again


def kill_a_run_before_its_proof(server, part: str, mistake: dict, sign: str) -> None:
    """A run that is killed once its mistake is written, which the sign shows, and before it is reverted."""
    file = {"ssh": DROP_IN, "firewall": RULES}[part]
    command = ["ansible-playbook", "site.yml", "-i", "inventories/lab", "--limit", server.name, "--tags", part]
    process = subprocess.Popen(
        [*command, *settings(mistake)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # On the host itself: the moment is over within a second.
        server.run(f"timeout 300 sh -c 'until grep -q \"{sign}\" {file}; do sleep 0.05; done'")
    finally:
        kill_with_all_it_started(process.pid)
        process.wait()
    assert server.host.file(SNAPSHOT.format(part)).exists


def test_a_run_killed_before_its_proof_is_taken_back_by_the_server_itself(server, ssh):
    kill_a_run_before_its_proof(server, "firewall", {**CLOSES_SSH, "firewall_rollback_seconds": 25}, "203.0.113.0")
    wait_until(lambda: not server.host.file(SNAPSHOT.format("firewall")).exists, "the server takes it back", 90)
    assert ssh.works()
    journal = "journalctl --boot --no-pager --unit openmates-guard@firewall"
    wait_until(lambda: "was not confirmed in time" in server.run(journal), "the server reports it", 30)


def test_a_reboot_before_the_proof_does_not_lock_out_either(server, ssh):
    """The effect of a reboot on the guard: its service ends, the boot id changes, and the service starts again."""
    kill_a_run_before_its_proof(
        server, "ssh", {**REFUSES_THE_ADMINISTRATOR, "ssh_rollback_seconds": 25}, "no-such-group"
    )
    server.run("systemctl stop openmates-guard@ssh")
    server.run(f'sed -i \'s/"boot": "[^"]*/"boot": "another/\' {SNAPSHOT.format("ssh")}')
    assert server.run("systemctl is-enabled openmates-guard@ssh").strip() == "enabled"
    server.run("systemctl start openmates-guard@ssh")
    wait_until(lambda: not server.host.file(SNAPSHOT.format("ssh")).exists, "the server takes it back", 90)


def test_a_run_after_a_killed_one_takes_over(server):
    harmless = {"ssh_options": {"LoginGraceTime": "31"}, "ssh_rollback_seconds": 300}
    kill_a_run_before_its_proof(server, "ssh", harmless, "LoginGraceTime 31")
    run = server.playbook("site.yml", "--tags", "ssh")
    assert run.returncode == 0, run.stdout[-2000:]
    assert recap(run.stdout)["changed"] == 1
