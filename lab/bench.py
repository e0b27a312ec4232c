#!/usr/bin/env python3
"""Time a run of site.yml that changes nothing, against a play with one ping, on the provisioned lab host prod1."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
DEFAULTS = ROOT / "roles/settings/defaults/main/main.yml"
PING = "- hosts: prod1\n  remote_user: {user}\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"


def run(playbook: str) -> tuple[float, str]:
    """Seconds that one run took, and its output. Exits if the run failed."""
    environment = {**os.environ, "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks", "ANSIBLE_NOCOLOR": "1"}
    start = time.monotonic()
    result = subprocess.run(
        ["ansible-playbook", playbook, "-i", "inventories/lab", "--limit", "prod1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        sys.exit(f"{playbook} failed:\n{result.stdout[-4000:]}{result.stderr[-1000:]}\nProvision prod1 first: make lab")
    return time.monotonic() - start, result.stdout


def main() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=ROOT / ".lab") as ping:
        ping.write(PING.format(user=yaml.safe_load(DEFAULTS.read_text())["openmates_ssh_user"]))
        ping.flush()
        pings = [run(ping.name)[0] for _ in range(RUNS)]
    output, noops = "", []
    for _ in range(RUNS):
        seconds, output = run("site.yml")
        if not re.search(r"prod1 .*changed=0 ", output):
            sys.exit("The run changed something. Run site.yml until it changes nothing, then measure.")
        noops.append(seconds)
    ping_median, noop_median = statistics.median(pings), statistics.median(noops)
    slowest = re.findall(r"^(.+?) -+ +([\d.]+)s$", output, re.MULTILINE)
    print(f"one ping    {ping_median:6.1f} s  (median of {RUNS})")
    print(
        f"no-op run   {noop_median:6.1f} s  (median of {RUNS}), {len(re.findall('^TASK', output, re.MULTILINE))} tasks"
    )
    print(f"ratio       {noop_median / ping_median:6.1f}")
    print("slowest tasks of the last run:")
    for name, seconds in slowest[:10]:
        print(f"  {seconds:>6} s  {name}")


if __name__ == "__main__":
    main()
