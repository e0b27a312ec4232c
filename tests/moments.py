"""Moments of a run at which a drill kills it. A task is identified by its file and its module, not by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"


def _flat(entries: list[dict]) -> Iterator[dict]:
    """Tasks in the order of the file, those in blocks included."""
    for entry in entries:
        if "block" in entry:
            for part in ("block", "rescue", "always"):
                yield from _flat(entry.get(part, []))
        else:
            yield entry


@dataclass(frozen=True)
class Moment:
    """A task of a role has begun and, if there is a command, the command succeeds on the host."""

    role: str
    file: str
    #: A keyword of the task, such as its module and, where that is not unique, its value or one of its options.
    keyword: str
    value: str | None = None
    command: str | None = None
    #: Whether `make test` kills a run here, because keys or data could be lost. `make interrupted` ignores this.
    worst: bool = False

    def _is(self, task: dict) -> bool:
        if self.keyword not in task:
            return False
        found = task[self.keyword]
        return self.value is None or (self.value in found if isinstance(found, dict) else self.value == found)

    def heading(self) -> str:
        """How Ansible announces the task, up to a template in its name. Fails unless exactly one task fits."""
        tasks = yaml.safe_load((ROLES / self.role / "tasks" / self.file).read_text())
        names = [task["name"] for task in _flat(tasks) if self._is(task)]
        if len(names) != 1:
            raise LookupError(f"{len(names)} tasks of roles/{self.role}/tasks/{self.file} fit {self}: {names}")
        return f"{self.role} : {names[0].partition('{{')[0]}"

    def begins_with(self, line: str) -> bool:
        """Whether a line of Ansible's output announces the task, or says that it takes its time."""
        return line.startswith(("TASK [", "... ")) and self.heading() in line


MODULE = "openmates.server."
#: The first contact with a server, up to the administrator's first tasks.
FIRST_CONTACT = [
    Moment("bootstrap", "host_key.yml", MODULE + "host_key"),
    Moment("bootstrap", "main.yml", "ansible.builtin.raw"),
    Moment("packages", "main.yml", "register", "packages_result", command="pidof dpkg", worst=True),
    Moment("ssh", "main.yml", MODULE + "guarded_files", worst=True),
    Moment("hardening", "main.yml", MODULE + "host_files"),
]
MOMENTS = [
    Moment("firewall", "main.yml", MODULE + "guarded_files"),
    Moment("docker", "main.yml", MODULE + "host_files"),
    Moment("caddy", "main.yml", MODULE + "host_files"),
    Moment("stack", "main.yml", "no_log"),
    Moment("stack", "main.yml", MODULE + "host_files", "src"),
    Moment("stack", "changes.yml", "community.docker.docker_compose_v2", command="docker images --quiet | grep -q ."),
    Moment("vault", "init.yml", MODULE + "vault_init", worst=True),
    Moment("vault", "unseal.yml", MODULE + "vault_unseal", worst=True),
    Moment("vault", "open.yml", "ansible.builtin.include_tasks", "reconcile.yml"),
    Moment(
        *("vault", "reconcile.yml", MODULE + "vault_config"),
        command="test -e /etc/credstore.encrypted/openmates-vault-api",
        worst=True,
    ),
    Moment("vault", "main.yml", MODULE + "vault_host"),
    Moment(
        *("stack", "changes.yml", "community.docker.docker_compose_v2"),
        command="docker ps --all | grep -q cms-setup",
        worst=True,
    ),
    Moment("directus", "reconcile.yml", MODULE + "directus_config"),
    Moment("stack", "changes.yml", "community.docker.docker_compose_v2", command="docker ps | grep -q task-worker"),
]
