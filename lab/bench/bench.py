#!/usr/bin/env python3
"""Time what an operator runs most often on a provisioned lab host, and show where the time goes: `make bench`.

Machines differ and are noisy, so each time is the median of several runs, and is given as a ratio to a play with one
ping in the same sitting. The result is kept in docs/bench.json, one entry for each commit, and drawn in docs/bench.svg.
Exit code 1: a ratio is more than TOLERANCE above that of the entry before, which is printed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import chart
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))
import proofs  # noqa: E402

HERE = Path(__file__).parent
RECORD, DRAWING = ROOT / "docs/bench.json", ROOT / "docs/bench.svg"
TOLERANCE = 1.15
#: What is timed, by its name in the record: the command's end.
RUNS = {
    "site": ["site.yml"],
    "check": ["site.yml", "--check"],
    "verify": ["playbooks/verify.yml"],
    "status": ["playbooks/status.yml"],
}
PING = "- hosts: {host}\n  remote_user: {user}\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"
MOST_TASKS = 10


class Times(t.NamedTuple):
    """Of one run: seconds from start to end, and seconds of this machine's CPU, user and system."""

    wall: float
    cpu: float
    output: str


def run(host: str, *arguments: str, **environment: str) -> Times:
    """Run a playbook. Exits if it fails."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", *arguments, "-i", "inventories/lab", "--limit", host],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        end = f"{done.stdout[-4000:]}{done.stderr[-1000:]}"
        sys.exit(f"{' '.join(arguments)} failed:\n{end}\nProvision {host} first")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Times(time.monotonic() - begun, cpu, done.stdout)


def median(times: list[Times]) -> dict[str, float]:
    return {
        "seconds": round(statistics.median(one.wall for one in times), 2),  # a ping takes about one
        "cpu_seconds": round(statistics.median(one.cpu for one in times), 2),
    }


def traffic(host: str) -> int:
    """Bytes that the host has sent and received since it started."""
    table = subprocess.run(
        ["docker", "exec", f"openmates-lab-{host}", "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
    ).stdout
    fields = next(line for line in table.splitlines() if line.strip().startswith("eth0:")).split(":")[1].split()
    return int(fields[0]) + int(fields[8])


def profile(host: str) -> dict[str, t.Any]:
    """Where the time of a run that changes nothing goes, from one more run, which the measuring itself slows down."""
    with tempfile.TemporaryDirectory() as folder:
        tasks, calls = Path(folder, "tasks"), Path(folder, "calls")
        before = traffic(host)
        run(
            host,
            *RUNS["site"],
            ANSIBLE_CALLBACK_PLUGINS=str(HERE / "callback"),
            ANSIBLE_CALLBACKS_ENABLED="bench_tasks",
            ANSIBLE_SSH_EXECUTABLE=str(HERE / "ssh"),
            BENCH_TASKS=str(tasks),
            BENCH_CALLS=str(calls),
        )
        moved = traffic(host) - before
        found = json.loads(tasks.read_text())
        # The longest one holds the server's lock as long as the run lasts.
        seconds = sorted(float(line) for line in calls.read_text().split())[:-1]
    roles: dict[str, float] = {}
    for task in found:
        roles[task["role"]] = roles.get(task["role"], 0) + task["seconds"]
    slowest = sorted(found, key=lambda task: -task["seconds"])[:MOST_TASKS]
    return {
        "roles": {name: round(roles[name], 2) for name in sorted(roles, key=lambda name: -roles[name])},
        "slowest": [[task["role"], task["name"], round(task["seconds"], 2)] for task in slowest],
        "tasks": len(found),
        "ssh": {"calls": len(seconds), "seconds": round(sum(seconds), 1), "kilobytes_with_scan": moved // 1000},
    }


def measure(host: str, count: int) -> dict[str, t.Any]:
    user = yaml.safe_load((ROOT / "roles/settings/defaults/main/main.yml").read_text())["openmates_ssh_user"]
    with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=ROOT / ".lab") as ping:
        ping.write(PING.format(host=host, user=user))
        ping.flush()
        result: dict[str, t.Any] = {"ping": median([run(host, ping.name) for _ in range(count)])}
    for name, arguments in RUNS.items():
        times = [run(host, *arguments) for _ in range(count)]
        if name in ("site", "check") and not re.search(rf"{host} .*changed=0 ", times[-1].output):
            sys.exit("The run changed something. Run site.yml until it changes nothing, then measure.")
        result[name] = median(times)
        result[name]["ratio"] = round(result[name]["seconds"] / result["ping"]["seconds"], 1)
        print(f"{name:8}{result[name]['seconds']:6.1f} s, {result[name]['ratio']:5.1f} times a ping", flush=True)
    return {**result, "profile": profile(host)}


def report(entry: dict[str, t.Any]) -> t.Iterator[str]:
    yield f"one ping  {entry['ping']['seconds']:6.1f} s"
    for name in RUNS:
        one = entry[name]
        cpu = f"{one['cpu_seconds']:6.1f} s of CPU here"
        yield f"{name:8}  {one['seconds']:6.1f} s  {one['ratio']:5.1f} times a ping  {cpu}"
    found = entry["profile"]
    ssh = found["ssh"]
    yield f"A run that changes nothing: {found['tasks']} tasks; {ssh['calls']} calls of ssh, {ssh['seconds']} s in them"
    yield from (f"  {seconds:6.1f} s  {name}" for name, seconds in found["roles"].items() if seconds >= 0.1)
    yield "The slowest tasks:"
    yield from (f"  {seconds:6.1f} s  {role}: {name}" for role, name, seconds in found["slowest"])


def slower(entry: dict[str, t.Any], before: dict[str, t.Any] | None) -> list[str]:
    """What takes more than TOLERANCE times as many pings as in an earlier entry."""
    return [
        f"{name}: {entry[name]['ratio']} times a ping, {before[name]['ratio']} at {before['commit']}"
        for name in RUNS
        if before and name in before and entry[name]["ratio"] > TOLERANCE * before[name]["ratio"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod1", help="a provisioned lab host; default: prod1")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; default: 5")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else []
    commit = proofs.Proofs().commit()
    entry = {
        "commit": commit,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": proofs.machine(),
        **measure(options.host, options.runs),
    }
    record = [one for one in record if one["commit"] != commit]
    worse = slower(entry, record[-1] if record else None)
    record.append(entry)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    DRAWING.write_text(chart.svg(record))
    print("\n".join([*report(entry), *(f"SLOWER: {line}" for line in worse)]))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
