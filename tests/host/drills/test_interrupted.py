"""A run killed at any moment can be run again: it ends converged, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import threading

from killing import kill_with_all_it_started

from lab import ROOT

COMMAND = ["ansible-playbook", "site.yml", "-i", "inventories/lab", "--limit", "prod2"]
ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
KEYS = ROOT / "inventories/vault-keys/lab/prod2.yml"

#: The run is killed when this task has begun and, where there is a command, when that succeeds on the host.
MOMENTS = [
    ("Install the packages that are missing", None),
    ("Install the packages", "pidof dpkg"),
    ("Let in whom sshd should, and nobody else", None),
    ("Set the kernel's settings, now and at boot", None),
    ("Open what the environment declares, and nothing else", None),
    ("Configure the Docker daemon, if it accepts the configuration", None),
    ("Configure Caddy, if it accepts the configuration", None),
    ("Write secrets", None),
    ("Write Compose files and configuration", None),
    ("Start services", "docker images --quiet | grep -q ."),
    ("Initialise Vault and store its keys, encrypted, on the controller", None),
    ("Unseal Vault and wait until it serves requests", None),
    ("Reconcile the open Vault", None),
    ("Reconcile Vault's engines, policies, logins and seeds", "test -e /etc/credstore.encrypted/openmates-vault-api"),
    ("Install the host's Vault units", None),
    ("Start services and wait until they are healthy", "docker ps --all | grep -q cms-setup"),
    ("Reconcile Directus's schema, access, users, settings, folders and flows", None),
    ("Start services and wait until they are healthy", "docker ps | grep -q task-worker"),
]
DEADLINE = 900


def on_host(host, command: str) -> bool:
    return host.run(command).rc == 0


def run_and_kill(host, task: str, condition: str | None) -> None:
    """Start site.yml and kill it, with everything it started, at the moment given. Fails if the moment never comes."""
    process = subprocess.Popen(COMMAND, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(DEADLINE, kill_with_all_it_started, (process.pid,))
    watchdog.start()
    begun = False
    try:
        for line in process.stdout:
            begun = begun or (line.startswith("TASK [") and task in line)
            if begun:
                while condition and process.poll() is None and not on_host(host, condition):
                    pass  # the command on the host takes its time: this does not spin
                break
    finally:
        watchdog.cancel()
        killed = process.poll() is None
        if killed:
            kill_with_all_it_started(process.pid)
        process.wait()
    assert begun and killed, f"the run never was in the middle of {task!r}"


def test_killed_at_any_moment_it_ends_converged_with_nothing_lost(host):
    keys = None
    for task, condition in MOMENTS:
        run_and_kill(host, task, condition)
        if keys is not None:
            assert KEYS.read_bytes() == keys, f"the Vault keys changed after a kill at {task!r}"
        elif KEYS.exists() and task.startswith("Unseal"):
            keys = KEYS.read_bytes()

    final = subprocess.run(COMMAND, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stdout[-4000:]
    assert KEYS.read_bytes() == keys

    again = subprocess.run(COMMAND, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "changed=0 " in again.stdout, again.stdout[-4000:]
