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
    Moment("stack", "up.yml", "community.docker.docker_compose_v2", command="docker images --quiet | grep -q ."),
    Moment("vault", "init.yml", MODULE + "vault_init", worst=True),
    Moment("vault", "unseal.yml", MODULE + "vault_unseal", worst=True),
    Moment("vault", "open.yml", "ansible.builtin.include_tasks", "reconcile.yml"),
    Moment(
        *("vault", "reconcile.yml", MODULE + "vault_config"),
        command="test -e /etc/credstore.encrypted/openmates-vault-api",
        worst=True,
    ),
    Moment("vault", "units.yml", MODULE + "vault_host"),
    Moment(
        *("stack", "up.yml", "community.docker.docker_compose_v2"),
        command="docker ps --all | grep -q cms-setup",
        worst=True,
    ),
    Moment("directus", "reconcile.yml", MODULE + "directus_config"),
    Moment("stack", "up.yml", "community.docker.docker_compose_v2", command="docker ps | grep -q task-worker"),
]

_CONTAINERS = "docker ps -q --filter label=com.docker.compose.oneoff=False --filter label=com.docker.compose.service="
_TWO = "[ $(" + _CONTAINERS + "{0} | wc -l) = 2 ]"
_GATE = "ls /run/openmates/gate | grep -q "
_ROLLOUT = ("stack", "changes.yml", "ansible.builtin.include_tasks", "rollout.yml")
#: Moments of a deploy, from the checks to the record of the release. What replaces containers runs on the host, and
#: goes on there when Ansible is killed.
DEPLOY = {
    "images-pulled": Moment("stack", "pull.yml", MODULE + "watched_script"),
    "files-written": Moment("stack", "main.yml", MODULE + "host_files", "src"),
    "database-dumped": Moment("directus", "prepare.yml", "ansible.builtin.script"),
    "cms-setup-runs": Moment(
        *("stack", "changes.yml", "ansible.builtin.debug"), command=_CONTAINERS + "cms-setup | grep -q ."
    ),
    "second-api-starts": Moment(*_ROLLOUT, command=_TWO.format("api")),
    # The oldest container is the last one of the list.
    "api-switched": Moment(
        *_ROLLOUT,
        command=f"{_TWO.format('api')} && {_GATE}. && ! {_GATE}"
        f'"$(docker port $({_CONTAINERS}api | tail -n 1) 8000 | head -n 1)"',
    ),
    "old-api-removed": Moment(*_ROLLOUT, command=f"! {_TWO.format('api')} && {_GATE}."),
    "second-worker-starts": Moment(*_ROLLOUT, command=_TWO.format("task-worker")),
    "old-worker-drains": Moment(*_ROLLOUT, command="pgrep -f [w]orker-drain.py"),
    "release-recorded": Moment("release", "main.yml", "ansible.builtin.command"),
}

#: Of playbooks/move.yml. `make move-drill` kills it there.
MOVE = {
    # Before the pause, while the old server serves.
    "copy-restored": Moment("restore", "main.yml", MODULE + "watched_script"),
    "all-but-workers-starts": Moment(
        *("stack", "up.yml", "community.docker.docker_compose_v2"), command="docker ps | grep -q openmates-api"
    ),
    # The old server makes the last snapshot; the new one puts it in its place. A task is announced by its first result.
    "handed-over": Moment(
        "move", "stop.yml", "ansible.builtin.command", command="! docker ps | grep -q openmates-api-1"
    ),
    "taken-over": Moment(
        *("move", "hand_over.yml", "ansible.builtin.command"), command="! docker ps | grep -q openmates-cache"
    ),
    # The new server has all data, and the old one forwards.
    "forwarded": Moment("move", "forward.yml", "ansible.builtin.command"),
}
