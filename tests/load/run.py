#!/usr/bin/env python3
"""Prove on a lab host, under load, that a deploy fails no request: docs/deploy.md has the cases.

All through a case a load generator sends 50 requests a second through Caddy, half of them POSTs over kept-alive
connections, with a 5-second request and ten WebSockets beside them. Each case that passed is skipped when nothing that
matters has changed: docs/proofs.md, lab/proofs.py. A case begins with the server at the inventory's release.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/faults"), str(ROOT / "tests"), str(ROOT / "lab")]
import killing  # noqa: E402
import proofs  # noqa: E402
import yaml  # noqa: E402
from lab_host import HostError, LabHost  # noqa: E402

INPUTS = ("files", "lab/backend", "lab/images", "playbooks", "plugins", "roles", "tests/load")
REPOSITORY = "registry.openmates.test/glowingkitty/openmates-"
BASE = "v0.14.0"
#: Versions that the lab makes of the sample backend, and what is different in each.
VERSIONS = {
    "v0.14.0-proof1": "PROOF=1",
    "v0.14.0-proof2": "PROOF=2",
    "v0.14.0-exit": "SAMPLE_FAULT=exit",
    "v0.14.0-never": "SAMPLE_FAULT=never-ready",
    "v0.14.0-fails": "SAMPLE_FAULT=fails-after:15",
}
API = 'CMD ["uvicorn", "backend.core.api.main:app", "--host", "0.0.0.0", "--port", "8000"]'
MOMENTS = 10
CALM_SECONDS = 15  # of load before and after


class Proof:
    """A lab host, and what a case does with it."""

    def __init__(self, name: str) -> None:
        self.host = LabHost(name)
        self.folder = ROOT / ".lab/load"
        self.folder.mkdir(parents=True, exist_ok=True)
        groups = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())["lab"]["children"]
        self.address = next(hosts["hosts"][name]["ansible_host"] for hosts in groups.values() if name in hosts["hosts"])

    def make_versions(self) -> None:
        """Images that differ in one variable, on the host alone."""
        for version, change in VERSIONS.items():
            self.host.shell(
                f"container=$(docker create {REPOSITORY}api:{BASE} true)"
                f" && docker commit --change 'ENV {change}' --change '{API}' $container {REPOSITORY}api:{version}"
                f" && docker rm $container && docker tag {REPOSITORY}cms-setup:{BASE} {REPOSITORY}cms-setup:{version}"
            )

    def play(self, playbook: str, *arguments: str, succeeds: bool = True) -> float:
        """Run a playbook; its seconds. Raises HostError if it ends otherwise than it has to."""
        began = time.monotonic()
        process = self.host.playbook(f"playbooks/{playbook}.yml", *arguments)
        code = process.wait()
        if (code == 0) != succeeds:
            raise HostError(f"{playbook} {' '.join(arguments)} ended with {code}: {process.log}")
        return time.monotonic() - began

    def converge(self) -> None:
        """Bring the server to the inventory's release, whatever an earlier case has left."""
        self.play("site", "-e", "accept_release=inventory", "--tags", "caddy,stack,directus")

    @contextlib.contextmanager
    def load(self, case: str) -> Iterator[dict]:
        """Put load on the host; the result is in the yielded mapping at the end."""
        out = self.folder / f"{case}.json"
        command = [sys.executable, str(ROOT / "tests/load/load.py"), "--out", str(out), "--address", self.address]
        command += ["--host", f"api.{self.host.name}.example.test", "--ca-file", str(ROOT / ".lab/acme-root.crt")]
        process = subprocess.Popen(command)
        result: dict = {}
        try:
            time.sleep(CALM_SECONDS)
            yield result
            time.sleep(CALM_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        result |= json.loads(out.read_text())

    def measure(self, case: str, act: Callable[[], object]) -> dict:
        with self.load(case) as result:
            act()
        return result


def told(result: dict) -> str:
    """What the load generator saw, in a line."""
    closed = ", ".join(f"{count} with {code}" for code, count in result["websockets"]["closed"].items()) or "none"
    return (
        f"{result['failed']} of {result['requests']} requests failed, outage {result['outage_seconds']} s,"
        f" p99 {result['milliseconds']['p99']} ms, WebSockets closed: {closed}"
    )


def unharmed(result: dict) -> bool:
    return result["requests"] > 0 and not result["failed"] and not result["websockets"]["unclean"]


def deploy(proof: Proof) -> tuple[bool, str]:
    result = proof.measure("deploy", lambda: proof.play("deploy", "-e", "version=v0.14.0-proof1"))
    return unharmed(result) and bool(result["websockets"]["closed"]), told(result)


def rollback(proof: Proof) -> tuple[bool, str]:
    proof.play("deploy", "-e", "version=v0.14.0-proof1")
    result = proof.measure("rollback", lambda: proof.play("rollback"))
    return unharmed(result) and bool(result["websockets"]["closed"]), told(result)


def broken(version: str) -> Callable[[Proof], tuple[bool, str]]:
    def case(proof: Proof) -> tuple[bool, str]:
        result = proof.measure(version, lambda: proof.play("deploy", "-e", f"version={version}", succeeds=False))
        # The old container never stopped, so no WebSocket was closed either.
        return unharmed(result) and not result["websockets"]["closed"], told(result)

    return case


def token(proof: Proof) -> tuple[bool, str]:
    new = f"openmates_internal_api_token={os.urandom(24).hex()}"
    result = proof.measure("token", lambda: proof.play("site", "-e", new, "--tags", "stack,vault,directus"))
    return unharmed(result) and bool(result["websockets"]["closed"]), told(result)


def compose(proof: Proof) -> tuple[bool, str]:
    """The comparison: what `docker compose up -d` does with the same new image. It proves nothing, and has to fail."""

    def up() -> None:
        change = f"s|api:{BASE}|api:v0.14.0-proof2|"
        proof.host.shell(
            f"cd /opt/openmates && sed -i '{change}' docker-compose.yml && docker compose --ansi=never up -d",
            timeout=900,
        )
        ends = time.monotonic() + 300
        while not proof.host.readiness()[0] and time.monotonic() < ends:
            time.sleep(3)

    result = proof.measure("compose", up)
    return bool(result["failed"]), told(result)


def tasks(proof: Proof) -> tuple[bool, str]:
    """Each task of 0.1 to 20 s is done exactly once, through a deploy of the workers."""
    script = (ROOT / "tests/load/tasks.py").read_text()
    command = "cd /opt/openmates && docker compose --ansi=never run --rm --no-deps -T --entrypoint /bin/sh task-worker"
    command += " /openmates/with-secrets.sh python3 - 150 0.4"
    sender = subprocess.Popen(
        ["docker", "exec", "-i", f"openmates-lab-{proof.host.name}", "sh", "-c", command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    sender.stdin.write(script)
    sender.stdin.close()
    proof.play("deploy", "-e", "version=v0.14.0-proof1")
    result = json.loads(sender.stdout.read())
    sender.wait()
    return result["done"] == result["sent"] > 0, json.dumps(result)


def killed(number: int) -> Callable[[Proof], tuple[bool, str]]:
    def case(proof: Proof) -> tuple[bool, str]:
        """Ansible is killed at a moment of a deploy; the site serves, and the next deploy converges."""
        seconds = proof.play("deploy", "-e", "version=v0.14.0-proof2")
        proof.converge()
        moment = seconds * (number - 0.5) / MOMENTS

        def kill() -> None:
            process = proof.host.playbook("playbooks/deploy.yml", "-e", "version=v0.14.0-proof1")
            time.sleep(moment)
            killing.kill_with_all_it_started(process.pid)
            process.wait()
            proof.play("deploy", "-e", "version=v0.14.0-proof1")

        result = proof.measure(f"killed-{number}", kill)
        left = [len(proof.host.containers(service)) for service in ("api", "task-worker", "task-scheduler")]
        return unharmed(result) and left == [1, 1, 1], f"killed after {moment:.0f} of {seconds:.0f} s; {told(result)}"

    return case


CASES: dict[str, Callable[[Proof], tuple[bool, str]]] = {
    "compose": compose,
    "deploy": deploy,
    "rollback": rollback,
    "image-exits": broken("v0.14.0-exit"),
    "never-ready": broken("v0.14.0-never"),
    "fails-when-ready": broken("v0.14.0-fails"),
    "token": token,
    "tasks": tasks,
} | {f"killed-{number}": killed(number) for number in range(1, MOMENTS + 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod2", help="a provisioned lab host; default: prod2")
    parser.add_argument("--again", action="store_true", help="repeat cases that passed")
    parser.add_argument("--list", action="store_true", help="show the cases and end")
    parser.add_argument("case", nargs="*", help="a case, or what one begins with: killed")
    options = parser.parse_args()
    wanted = [case for case in CASES if not options.case or any(case.startswith(word) for word in options.case)]
    if options.list or not wanted:
        print("\n".join(CASES))
        return 0 if options.list else 2
    proof, record, failed = Proof(options.host), proofs.Proofs(), []
    for case in wanted:
        name = f"deploy: {case}"
        digest = record.digest(INPUTS)
        if record.done(name, digest) and not options.again:
            print(f"{case}: passed before with the same inputs", flush=True)
            continue
        print(f"{case} ...", flush=True)
        began = time.monotonic()
        try:
            proof.converge()
            proof.make_versions()
            passed, detail = CASES[case](proof)
        except (HostError, ValueError, OSError, subprocess.SubprocessError) as error:
            passed, detail = False, str(error)
        detail += f"; load {os.getloadavg()[0]:.0f}"
        record.record(name, "passed" if passed else "failed", detail, digest=digest, seconds=time.monotonic() - began)
        print(f"{case}: {'passed' if passed else 'FAILED'}: {detail}", flush=True)
        failed += [] if passed else [case]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
