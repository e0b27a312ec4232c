"""A lab host under load, and the project's playbooks against it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from lab_host import HostError, LabHost

ROOT = Path(__file__).resolve().parents[2]

REPOSITORY = "registry.openmates.test/glowingkitty/openmates-"
BASE = "v0.14.0"
#: Versions that the lab makes of the sample backend, and what is different in each.
NEW, NEXT = "v0.14.0-proof1", "v0.14.0-proof2"
VERSIONS = {
    NEW: "PROOF=1",
    NEXT: "PROOF=2",
    "v0.14.0-exit": "SAMPLE_FAULT=exit",
    "v0.14.0-never": "SAMPLE_FAULT=never-ready",
    "v0.14.0-fails": "SAMPLE_FAULT=fails-after:15",
}
API = 'CMD ["uvicorn", "backend.core.api.main:app", "--host", "0.0.0.0", "--port", "8000"]'
CALM_SECONDS = 10  # of load before and after
SENDER = "openmates-load-tasks"
TASKS_PER_SECOND = 0.4
ANNOUNCED = re.compile(r"(\S+) restarts: (?:(?! restarts: ).)*? for up to (\d+) s")


@dataclass
class Played:
    """A run of a playbook."""

    code: int
    seconds: float
    log: Path

    @property
    def output(self) -> str:
        """Its output on one line, since YAML wraps long texts."""
        return " ".join(self.log.read_text(errors="replace").split())


@dataclass
class Proof:
    """What a case works with. `tree`: the project whose playbooks are run."""

    host: LabHost
    tree: Path = ROOT
    #: Whether the server has, as far as is known, the secrets and the release of the inventory.
    converged: bool = False
    made: bool = False
    folder: Path = field(default=ROOT / ".lab/load")

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        groups = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())["lab"]["children"]
        name = self.host.name
        self.address = next(hosts["hosts"][name]["ansible_host"] for hosts in groups.values() if name in hosts["hosts"])

    # ---------------------------------------------------------------- playbooks

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "ANSIBLE_CONFIG": str(self.tree / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}

    def command(self, playbook: str, *arguments: str) -> list[str]:
        inventory = str(ROOT / "inventories/lab")
        return ["ansible-playbook", f"playbooks/{playbook}.yml", "-i", inventory, "--limit", self.host.name, *arguments]

    def play(self, playbook: str, *arguments: str, succeeds: bool | None = True) -> Played:
        """Run a playbook. Raises HostError if it ends otherwise than it has to; None: it may end either way."""
        log = self.folder / f"{self.host.name}-{playbook}.log"
        began = time.monotonic()
        with log.open("w") as output:
            command = self.command(playbook, *arguments)
            done = subprocess.run(
                command, cwd=self.tree, env=self.environment, stdout=output, stderr=output, check=False
            )
        played = Played(done.returncode, time.monotonic() - began, log)
        if succeeds is not None and (played.code == 0) != succeeds:
            raise HostError(f"{playbook} {' '.join(arguments)} ended with {played.code}: {played.output[-700:]}")
        return played

    def deploy(self, version: str, *arguments: str, succeeds: bool | None = True) -> Played:
        return self.play("deploy", "-e", f"version={version}", *arguments, succeeds=succeeds)

    def converge(self) -> None:
        """Bring the server to the inventory's release, whatever an earlier case has left."""
        self.play("site", "-e", "accept_release=inventory", "--tags", "caddy,stack,directus")
        self.converged = True

    # ---------------------------------------------------------------- the host

    def make_versions(self) -> None:
        """Images that differ in one variable, on the host alone."""
        for version, change in VERSIONS.items():
            self.host.shell(
                f"container=$(docker create {REPOSITORY}api:{BASE} true)"
                f" && docker commit --change 'ENV {change}' --change '{API}' $container {REPOSITORY}api:{version}"
                f" && docker rm $container && docker tag {REPOSITORY}cms-setup:{BASE} {REPOSITORY}cms-setup:{version}"
            )
        self.made = True

    def only_in_registry(self, version: str) -> None:
        """Move a version's images from the host to the registry, as a new version's are in production."""
        for name in ("api", "cms-setup"):
            image = f"{REPOSITORY}{name}:{version}"
            self.host.shell(
                f"docker image inspect {image} > /dev/null 2>&1 && docker push --quiet {image};"
                f" docker rmi --force {image}",
                check=False,
                timeout=300,
            )

    def version(self) -> str:
        """The version that the api runs."""
        return self.host.containers("api")[0]["Config"]["Image"].rpartition(":")[2]

    def another(self) -> str:
        """A version that the api does not run."""
        return NEXT if self.version() == NEW else NEW

    def recorded(self) -> str:
        """The version of the last release that was recorded, and its result."""
        last = json.loads(self.host.run("/usr/local/sbin/openmates-release list --json"))[0]
        return f"{last['images']['api']['reference'].rpartition(':')[2]} {last['result']}"

    def left_over(self) -> list[str]:
        """What a finished roll-out must not leave."""
        found = []
        for service in ("api", "task-worker", "task-scheduler"):
            count = len(self.host.containers(service, running=False))
            found += [f"{count} containers of {service}"] if count != 1 else []
        gate = self.host.run("ls /run/openmates/gate 2> /dev/null || true")
        return found + ([f"gate {gate}"] if gate else [])

    # ---------------------------------------------------------------- load

    @contextlib.contextmanager
    def load(self, case: str, watch: tuple[str, ...] = ()) -> Iterator[dict]:
        """Put load on the host; the result is in the yielded mapping at the end."""
        out = self.folder / f"{case}.json"
        command = [sys.executable, str(ROOT / "tests/load/load.py"), "--out", str(out), "--address", self.address]
        command += ["--host", f"api.{self.host.name}.example.test", "--ca-file", str(ROOT / ".lab/acme-root.crt")]
        process = subprocess.Popen([*command, "--watch", *watch] if watch else command)
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

    @contextlib.contextmanager
    def tasks(self) -> Iterator[dict]:
        """Send tasks all the time; the result is in the yielded mapping at the end."""
        command = "cd /opt/openmates && docker rm --force {0} > /dev/null 2>&1;"
        command += " docker compose --ansi=never run --rm --no-deps -T --name {0} --entrypoint /bin/sh task-worker"
        command += " /openmates/with-secrets.sh python3 - {1}"
        sender = subprocess.Popen(
            ["docker", "exec", "-i", f"openmates-lab-{self.host.name}", "sh", "-c",
             command.format(SENDER, TASKS_PER_SECOND)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        sender.stdin.write((ROOT / "tests/load/tasks.py").read_text())
        sender.stdin.close()
        result: dict = {}
        try:
            yield result
        finally:
            self.host.shell(f"docker kill --signal TERM {SENDER}", check=False)
            output = sender.stdout.read()
            sender.wait()
        if not output.strip():
            raise HostError("no task was sent: the container that sends them has failed")
        result |= json.loads(output)


def seen(result: Mapping) -> str:
    """What the load generator saw, in a line."""
    closed = ", ".join(f"{count} with {code}" for code, count in result["websockets"]["closed"].items()) or "none"
    return (
        f"{result['failed']} of {result['requests']} requests failed, outage {result['outage_seconds']} s,"
        f" p99 {result['milliseconds']['p99']} ms, WebSockets closed: {closed}"
    )


def unharmed(result: Mapping) -> bool:
    return result["requests"] > 0 and not result["failed"] and not result["websockets"]["unclean"]


def tasks_seen(tasks: Mapping) -> str:
    lost = f", lost: those of {', '.join(f'{seconds:g}' for seconds in tasks['missing'])} s" if tasks["missing"] else ""
    return (
        f"{tasks['done']} of {tasks['sent']} tasks done once, {tasks['twice']} twice{lost};"
        f" {tasks['redelivered_and_dropped']} of {tasks['redelivered']} redelivered ones dropped"
    )


def tasks_unharmed(tasks: Mapping) -> bool:
    return tasks["done"] == tasks["sent"] > 0 and tasks["redelivered_and_dropped"] == tasks["redelivered"] > 0


def announced(output: str) -> dict[str, int]:
    """For how many seconds a run has announced to interrupt something, by service."""
    return {name.strip("'\""): int(seconds) for name, seconds in ANNOUNCED.findall(output)}
