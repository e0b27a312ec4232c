"""A provisioned lab host, by its console, which works without its network."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
STACK = "/opt/openmates"
sys.path.append(str(ROOT / "lab"))  # the runners import proofs.py from there


class HostError(Exception):
    """A command on the host failed, or the host is not what the proof needs."""


class LabHost:
    """Commands on a lab host and the project's playbooks against it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shell(self, command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess:
        """A shell command as the host's root."""
        result = subprocess.run(
            ["docker", "exec", f"openmates-lab-{self.name}", "sh", "-c", command],
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and result.returncode:
            raise HostError(f"{self.name}: {command}: {(result.stderr or result.stdout).strip()[-500:]}")
        return result

    def run(self, command: str) -> str:
        return self.shell(command).stdout.strip()

    def outside(self, command: str) -> None:
        """A command in the host's mount namespace with the rights of this machine: a lab host may not mount."""
        asked = ["docker", "inspect", "--format", "{{.State.Pid}}", f"openmates-lab-{self.name}"]
        process = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        words = ["nsenter", f"--mount=/proc/{process}/ns/mnt", "sh", "-ec", command]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(f"{self.name}: {command}: {done.stderr.strip()[-500:]}")

    @property
    def address(self) -> str:
        """Where it is, as seen by a client."""
        groups = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())["lab"]["children"]
        return next(
            hosts["hosts"][self.name]["ansible_host"] for hosts in groups.values() if self.name in hosts["hosts"]
        )

    def containers(self, service: str, running: bool = True) -> list[dict]:
        """`docker inspect` of a service's containers."""
        wanted = ("project=openmates", f"service={service}", "oneoff=False")
        labels = " ".join(f"--filter label=com.docker.compose.{label}" for label in wanted)
        ids = self.run(f"docker ps --no-trunc --quiet {'' if running else '--all'} {labels}").split()
        # One that was removed in the meantime is left out of the answer, with an error.
        return json.loads(self.shell("docker inspect " + " ".join(ids), check=False).stdout or "[]") if ids else []

    def services(self) -> list[str]:
        form = '{{.Label "com.docker.compose.service"}}'
        return self.run(f"docker ps --filter label=com.docker.compose.project=openmates --format '{form}'").split()

    def processes(self, service: str) -> list[int]:
        """The processes of a service's containers, by the host's numbers."""
        found: list[int] = []
        for container in self.containers(service):
            found += [int(word) for word in self.run(f"docker top {container['Id']} -eo pid").split()[1:]]
        return found

    def main_process(self, service: str) -> int:
        """The process that is the service: a container's first, or the one that an init has started."""
        for container in self.containers(service):
            first = container["State"]["Pid"]
            children = self.run(f"cat /proc/{first}/task/{first}/children").split()
            return int(children[0]) if container["HostConfig"].get("Init") and children else first
        raise HostError(f"{service} does not run")

    def healthy(self, service: str) -> bool:
        """Whether the service's own health check succeeds now, in each of its containers."""
        found = self.containers(service, running=False)
        return bool(found) and all(
            container["State"]["Running"] and not container["State"]["Restarting"] and self._check(container)
            for container in found
        )

    def _check(self, container: dict) -> bool:
        kind, *words = container["Config"]["Healthcheck"]["Test"]
        command = shlex.join(["sh", "-c", *words] if kind == "CMD-SHELL" else words)
        done = self.shell(f"timeout 20 docker exec {container['Id']} {command}", check=False)
        return done.returncode == 0

    def backend(self) -> str:
        """The backend that runs, for the record: the lab's sample identifies itself as a stand-in."""
        for container in self.containers("api", running=False):
            stands_in = container["Config"]["Labels"].get("org.openmates.lab.stand-in")
            return "sample" if stands_in else container["Config"]["Image"].rpartition("/")[2]
        raise HostError(f"{self.name} has no api: provision it with site.yml first")

    def images(self) -> list[str]:
        """The running software, for the record's digest."""
        return sorted({entry["Image"] for service in self.services() for entry in self.containers(service)})

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """The readiness probe's answer: ready or not, and the parts that fail with their details."""
        asked = self.shell("/usr/local/sbin/openmates-ready --json", check=False, timeout=180)
        if asked.returncode in (126, 127):
            raise HostError(f"{self.name} has no readiness probe: provision it with this tree's site.yml first")
        try:
            parts = json.loads(asked.stdout)["parts"]
        except (ValueError, KeyError, TypeError):
            return False, {"probe": (asked.stderr or asked.stdout).strip()[-300:]}
        failing = {part["name"]: str(part.get("detail", "")) for part in parts if not part["ok"]}
        return asked.returncode == 0, failing

    def playbook(self, name: str, *arguments: str) -> subprocess.Popen:
        """Start one of the project's playbooks against this host; its output goes to a file in .lab/faults."""
        log = ROOT / ".lab/faults" / f"{self.name}-{Path(name).stem}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        command = ["ansible-playbook", name, "-i", "inventories/lab", "--limit", self.name, *arguments]
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        process.log = log  # type: ignore[attr-defined]
        return process
