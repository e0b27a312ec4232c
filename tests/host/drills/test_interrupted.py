"""A run killed at any moment can be run again: it ends converged, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import threading

from killing import kill_with_all_it_started
from moments import MOMENTS, Moment

from lab import ROOT

ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}

DEADLINE = 900


def name_of(host) -> str:
    """The host's name in the inventory."""
    return host.backend.name.removeprefix("openmates-lab-")


def site_yml(host) -> list[str]:
    return ["ansible-playbook", "site.yml", "-i", "inventories/lab", "--limit", name_of(host)]


def on_host(host, command: str) -> bool:
    return host.run(command).rc == 0


def run_and_kill(host, moment: Moment) -> None:
    """Start site.yml and kill it, with everything it started, at the moment given. Fails if the moment never comes."""
    process = subprocess.Popen(site_yml(host), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(DEADLINE, kill_with_all_it_started, (process.pid,))
    watchdog.start()
    begun = False
    try:
        for line in process.stdout:
            begun = begun or moment.begins_with(line)
            if begun:
                while moment.command and process.poll() is None and not on_host(host, moment.command):
                    pass  # the command on the host takes its time: this does not spin
                break
    finally:
        watchdog.cancel()
        killed = process.poll() is None
        if killed:
            kill_with_all_it_started(process.pid)
        process.wait()
    assert begun and killed, f"the run never was in the middle of {moment}"


def test_killed_at_any_moment_it_ends_converged_with_nothing_lost(host):
    file = ROOT / f"inventories/vault-keys/lab/{name_of(host)}.yml"
    keys = None
    for moment in MOMENTS:
        run_and_kill(host, moment)
        if keys is not None:
            assert file.read_bytes() == keys, f"the Vault keys changed after a kill at {moment}"
        elif file.exists() and moment.keyword == "openmates.server.vault_unseal":
            keys = file.read_bytes()

    final = subprocess.run(site_yml(host), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stdout[-4000:]
    assert file.read_bytes() == keys

    again = subprocess.run(site_yml(host), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "changed=0 " in again.stdout, again.stdout[-4000:]
