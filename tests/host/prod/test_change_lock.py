"""The server's lock over its real SSH connection: who is refused, and what frees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess

from lab import Server, wait_until

LOCK, HISTORY = "/var/lib/openmates/change.lock", "/var/log/openmates/history.jsonl"


def start(server: Server, *command: str) -> subprocess.Popen:
    operator = server.operator
    return subprocess.Popen(
        [
            "ansible-playbook",
            operator.playbook(command[0]),
            "-i",
            operator.inventory,
            "--limit",
            server.name,
            *command[1:],
        ],
        cwd=operator.directory,
        env={**os.environ, "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def last_line(server: Server) -> dict:
    return json.loads(server.run(f"tail -n 1 {HISTORY}"))


def test_a_killed_run_frees_the_lock_and_is_in_the_history(server: Server) -> None:
    first = start(server, "site.yml", "--tags", "preflight")
    try:
        holder = json.loads(
            wait_until(lambda: server.run(f"cat {LOCK} 2> /dev/null || true"), "the lock is taken", 120)
        )
        assert (holder["verb"], holder["options"], holder["from"]) == ("site", ["--tags preflight"], "198.51.100.1")
        first.send_signal(signal.SIGSTOP)  # it lives, and does not end before the second one
        second = server.playbook("playbooks/maintenance.yml", "-e", "state=off")
        assert second.returncode != 0
        words = " ".join(second.stdout.split())
        assert "is still being changed: site --tags preflight by" in words and "from 198.51.100.1" in words
    finally:
        first.kill()
        first.wait()
    wait_until(lambda: server.run(f"cat {LOCK}") == "", "the lock is free", 10)
    assert last_line(server)["result"] == "interrupted"
    third = server.playbook("playbooks/maintenance.yml", "-e", "state=off")
    assert third.returncode == 0, third.stdout
    assert (last_line(server)["verb"], last_line(server)["result"]) == ("maintenance", "ok")
    shown = server.playbook("playbooks/history.yml", "-e", "history_last=2")
    assert "interrupted" in shown.stdout and "maintenance" in shown.stdout


def test_the_history_is_for_root_alone(server: Server) -> None:
    assert server.run(f"stat -c '%a %U %G' {HISTORY}") == "640 root root"
    assert server.run(f"stat -c '%a %U %G' {LOCK}") == "600 root root"
