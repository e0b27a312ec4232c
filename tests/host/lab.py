"""Shared code for tests of a provisioned lab host: the guidelines' tables, and commands of its operator."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STACK = "/opt/openmates"

# Typed in from the service tables of the architecture guidelines, never read from the project's data.
LONG_RUNNING = {
    *("api", "cms", "grafana", "cms-database", "cache", "vault", "task-worker", "task-scheduler"),
    *("prometheus", "loki", "promtail", "cadvisor"),
    "alertmanager",  # this project's own addition
}
ONE_SHOTS = {"vault-setup", "cms-setup"}
EVERYWHERE = {"0.0.0.0", "::"}
PUBLISHED = {  # service -> host addresses and host ports
    "prod": {"api": ({"127.0.0.1"}, {8000, 8001})},
    "dev": {"api": (EVERYWHERE, {8000}), "cms": (EVERYWHERE, {8055}), "grafana": (EVERYWHERE, {3001})},
}
OPEN_FROM_OUTSIDE = {"prod": {22, 80, 443}, "dev": {22, 8000, 8055, 3001}}
# What listens for Prometheus, on the host's address in the containers' network.
FOR_PROMETHEUS = {
    "prod": {"host": "172.30.0.1:9100", "caddy": "172.30.0.1:9180"},
    "dev": {"host": "172.30.0.1:9100"},
}
SERVICE_PORTS = {
    **{"api": 8000, "cms": 8055, "cms-database": 5432, "cache": 6379, "vault": 8200, "prometheus": 9090},
    **{"loki": 3100, "promtail": 9080, "cadvisor": 8080, "grafana": 3000, "alertmanager": 9093},
}


class NoAnswer(Exception):
    """No answer, which is not a failure during a start."""


#: How many times as long a condition may take on a slow, busy machine. It costs nothing where the condition is met.
PATIENCE = 3


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> object:
    """The condition's first true result. Fails with the description of the condition if there is none.

    seconds: how long it takes at most on a quick machine.
    """
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(NoAnswer):
            if answer := condition():
                return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)


def inventory(name: str) -> tuple[str, tuple[str, str]]:
    """The environment of a lab host and its IPv4 and IPv6 addresses."""
    groups = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())["lab"]["children"]
    environment = next(group for group in groups if name in groups[group]["hosts"])
    variables = groups[environment]["hosts"][name]
    return environment, (variables["ansible_host"], variables["lab_ipv6"])


class Hidden(dict):
    """A dictionary whose values a failing test does not print."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


class Operator:
    """Where the operator of a lab host works: in the checkout, or in a directory with the installed collection.

    LAB_OPERATOR names such a directory, which lab/operator.sh makes.
    """

    def __init__(self) -> None:
        installed = os.environ.get("LAB_OPERATOR")
        self.installed = bool(installed)
        self.directory = Path(installed or ROOT)
        self.inventory = "dev" if installed else "inventories/lab"
        self.secrets_file = self.directory / self.inventory / f"group_vars/{'dev' if installed else 'lab'}/secrets.yml"
        self.keys = self.directory / ("vault-keys/dev" if installed else "inventories/vault-keys/lab")

    def playbook(self, name: str) -> str:
        """How this operator calls a playbook of a checkout."""
        return f"openmates.server.{Path(name).stem}" if self.installed else name

    def run(self, *command: str | Path) -> subprocess.CompletedProcess:
        environment = {**os.environ, "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        return subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)

    def decrypted(self, file: Path) -> Hidden:
        """The content of one of the operator's encrypted files."""
        shown = self.run("ansible-vault", "view", file)
        assert shown.returncode == 0, shown.stderr
        return Hidden(yaml.safe_load(shown.stdout))

    def secrets(self) -> Hidden:
        return self.decrypted(self.secrets_file)

    def vault_keys(self, server: str) -> Hidden:
        return self.decrypted(self.keys / f"{server}.yml")


class Server:
    """The provisioned host: commands on it, and the project's playbooks against it."""

    def __init__(self, host) -> None:
        self.host = host
        self.operator = Operator()
        self.name = host.check_output("hostname")
        self.environment, self.addresses = inventory(self.name)
        self.domain = f"api.{self.name}.example.test"

    def run(self, command: str) -> str:
        """Standard output of a command on the host; fails the test if the command fails."""
        return self.host.check_output(command)

    def containers(self) -> dict[str, dict]:
        """`docker inspect` of the stack's containers, by service."""
        ids = self.run("docker ps --all --quiet --filter label=com.docker.compose.project=openmates").split()
        found = json.loads(self.run("docker inspect " + " ".join(ids)))
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in found}

    def compose(self, command: str) -> str:
        return self.run(f"cd {STACK} && docker compose {command} 2>&1")

    def readiness(self) -> dict:
        """The sample backend's report of its dependencies: {ready, checks: {name: {ok, detail}}}. Raises NoAnswer.

        Only the lab has this; the product uses openmates-ready.
        """
        ask = "curl -sf -m 8 http://127.0.0.1:{}/sample/dependencies"
        asked = self.host.run(f"{ask.format(8000)} || {ask.format(8001)}")
        if asked.rc:
            raise NoAnswer(f"the api: {asked.stderr or asked.rc}")
        answer = json.loads(asked.stdout)
        return {"ready": answer["ok"], "checks": answer["checks"]}

    def wait_until_ready(self, seconds: float = 90) -> None:
        wait_until(lambda: self.readiness()["ready"], "the api is ready", seconds)

    def failing_checks(self) -> set[str]:
        return {name for name, check in self.readiness()["checks"].items() if not check["ok"]}

    def playbook(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run one of the project's playbooks against this host, as an operator would."""
        operator = self.operator
        return operator.run(
            "ansible-playbook", operator.playbook(name), "-i", operator.inventory, "--limit", self.name, *arguments
        )


def recap(output: str) -> dict[str, int]:
    """The counts of Ansible's recap line."""
    line = next(line for line in output.splitlines() if "unreachable=" in line)
    return {key: int(value) for key, value in (part.split("=") for part in line.split(":", 1)[1].split())}
