#!/usr/bin/env python3
"""Proves the project on an emulated ARM machine: Debian 13 for aarch64, with a kernel and a boot of its own.

The machine, arm1 of inventories/lab, takes a container's place in the lab's network. The cases in order:

    images        the lab's images for arm64, in the lab's registry below that name; minutes to an hour the first time
    first run     a new machine (its disk is a layer above a cached one), and site.yml
    second run    site.yml again: no change; --check: no change
    reboot        by systemctl; no port answers that must not, from before the network is up; verify.yml
    power cut     the emulator is killed; Vault is open and the api ready without help; verify.yml

A case that passed is not repeated unless its inputs changed or FORCE=1. Results go to docs/proofs.md, logs to
.lab/arm64. KEEP=1 keeps the machine. LEAVE_OUT="cadvisor" builds no images of these rows; site.yml then ends at the
first service that lacks one. The lab must run (`make arm64` sees to that).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import proofs
from lab_arm64 import window

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".lab/arm64"
HOST = "arm1"
CONTAINER = f"openmates-lab-{HOST}"
ADDRESSES = ["198.51.100.15", "2001:db8:51::15"]
#: Of services on the host and in containers, and one at which nothing listens. None may answer from outside.
CLOSED = [111, 2019, 3000, 5432, 6379, 8000, 8055, 8200, 9090, 9100]
IMAGES = ["openbao", "cms-database", "cache", "api", "app-sample", "cms-setup", "prometheus", "alertmanager", "loki",
          "promtail", "grafana", "cadvisor", "directus"]  # fmt: skip
INPUTS = ["site.yml", "playbooks", "roles", "plugins", "files", "inventories/lab", "lab", ":(exclude)*.md"]
#: An emulated machine is some 20 times as slow as the one that it stands for.
SLOW = ["-e", "verify_ready_timeout=1800"]
CASES: dict[str, Callable[[], str]] = {}


class CaseFailed(Exception):
    """A case that did not pass. The text says what is wrong and where the log is."""


def case(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Make a function a case, in the order of the file."""

    def add(work: Callable[[], str]) -> Callable[[], str]:
        CASES[name] = work
        return work

    return add


def run(name: str, *command: str | Path) -> str:
    """Run a command; its output, which is shown and kept in a log. Raises CaseFailed."""
    log = STATE / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise CaseFailed(
            "\n".join([f"{name} ended with {process.returncode}; see .lab/arm64/{log.name}", *lines[-20:]])
        )
    return "".join(lines)


def playbook(name: str, path: str, *arguments: str) -> str:
    """Run a playbook against the machine; its output."""
    program = Path(sys.executable).parent / "ansible-playbook"
    return run(name, program, path, "-i", "inventories/lab", "--limit", HOST, *arguments)


def changed(output: str) -> int:
    """The number of changes in Ansible's recap of the machine."""
    return int(re.search(rf"^{HOST} .*changed=(\d+)", output, re.MULTILINE)[1])


def unchanged(output: str) -> None:
    if number := changed(output):
        raise CaseFailed(f"changed={number}, not 0")


def on_machine(script: str, patience: float = 300) -> str:
    """Standard output of a shell script that the administrator runs as root on the machine."""
    options = ["-F", STATE.parent / "ssh_config", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    done = subprocess.run(
        ["ssh", *options, HOST, "sudo sh -eu"],
        input=script, capture_output=True, text=True, check=False, timeout=patience,
    )  # fmt: skip
    if done.returncode:
        raise CaseFailed(f"a script on {HOST} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def memory() -> str:
    """What each service's container uses, without file cache, in MiB."""
    lines = on_machine("docker stats --no-stream --format '{{json .}}'").splitlines()
    used = {row["Name"]: row["MemUsage"].partition(" /")[0] for row in map(json.loads, lines)}
    return ", ".join(f"{re.sub('^openmates-|-1$', '', name)} {size}" for name, size in sorted(used.items()))


def left_out() -> list[str]:
    return os.environ.get("LEAVE_OUT", "").split()


@case("images")
def images() -> str:
    names = [name for name in IMAGES if name not in left_out()]
    run("images", sys.executable, "lab/images.py", "--architecture", "arm64", "build", "--jobs", "1", *names)
    table = json.loads(
        subprocess.run(
            [sys.executable, "lab/images.py", "--architecture", "arm64", "list", "--json", *names],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    genuine = [row["software"] for row in table if row["image"] and not row["stand_in"]]
    stand_ins = [row["name"] for row in table if row["image"] and row["stand_in"]]
    return (
        f"genuine: {', '.join(genuine)}; stand-ins: {', '.join(stand_ins)}; left out: {', '.join(left_out()) or 'none'}"
    )


@case("first run")
def first_run() -> str:
    playbook("machine", "lab/playbooks/arm64.yml", "-e", "lab_machine_anew=true")
    start = time.monotonic()
    playbook("first-run", "site.yml", *SLOW)
    took = proofs.duration(time.monotonic() - start)
    system = on_machine("echo $(uname -m), kernel $(uname -r), pages of $(getconf PAGESIZE)")
    return f"{system}; site.yml in {took}; memory: {memory()}"


@case("second run")
def second_run() -> str:
    start = time.monotonic()
    unchanged(playbook("second-run", "site.yml", *SLOW))
    took = proofs.duration(time.monotonic() - start)
    unchanged(playbook("dry-run", "site.yml", "--check", *SLOW))
    return f"site.yml in {took}: changed=0; --check: changed=0"


def boots(name: str, interrupt: Callable[[], object]) -> str:
    """Watch the ports while the machine boots, until it is verified."""
    start = time.monotonic()
    with window.watched(ADDRESSES, CLOSED) as seen:
        interrupt()
        playbook("machine", "lab/playbooks/arm64.yml")
        playbook(name, "playbooks/verify.yml", *SLOW)
    if seen.answered or seen.up is None:
        raise CaseFailed(seen.text())
    return f"ready without help, verify green after {proofs.duration(time.monotonic() - start)}; {seen.text()}"


@case("reboot")
def reboot() -> str:
    return boots("reboot", lambda: on_machine("systemd-run --quiet --on-active=1 systemctl reboot"))


@case("power cut")
def power_cut() -> str:
    def cut() -> None:
        subprocess.run(["docker", "kill", CONTAINER], check=True, capture_output=True)

    return boots("power-cut", cut)


def main(arguments: Iterable[str] | None = None) -> int:
    """Command line; see the head of this file. Returns 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", help=f"{', '.join(CASES)}; default: all")
    chosen = parser.parse_args(arguments).case
    if unknown := set(chosen) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    force = os.environ.get("FORCE") == "1"
    for name, work in CASES.items():
        title = f"arm64: {name}"
        if chosen and name not in chosen:
            continue
        if not force and proofs.done(title, INPUTS, left_out()):
            print(f"{title}: passed before with the same inputs", flush=True)
            continue
        start = time.monotonic()
        try:
            result, detail = "passed", work()
        except CaseFailed as problem:
            result, detail = "failed", str(problem)
        seconds = time.monotonic() - start
        proofs.record(title, result, detail.splitlines()[0], inputs=INPUTS, facts=left_out(), seconds=seconds)
        print(f"{title}: {result} in {proofs.duration(seconds)}. {detail}", flush=True)
        if result == "failed":
            return 1
    if not chosen and os.environ.get("KEEP") != "1":
        subprocess.run(["docker", "rm", "--force", CONTAINER], check=True, capture_output=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
