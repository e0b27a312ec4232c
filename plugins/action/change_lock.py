# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the lock of a host for the rest of the run."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import tempfile
import typing as t
from functools import partial
from pathlib import Path

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleActionSkip, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.modules.change_lock import ARGUMENTS
from ansible_collections.openmates.server.plugins.plugin_utils import commands, move
from ansible_collections.openmates.server.plugins.plugin_utils.change import holder
from ansible_collections.openmates.server.plugins.plugin_utils.change.lifelines import LIFELINES, events
from ansible_collections.openmates.server.plugins.plugin_utils.login import connection_as
from ansible_collections.openmates.server.plugins.plugin_utils.origin import operator, project_version

START = "openmates-change-lock"
#: Skips everything up to START, which may be the password for sudo, then reads the program.
LOADER = (
    "import sys; r = sys.stdin.buffer\n"
    "while True:\n"
    "    line = r.readline()\n"
    "    if not line: sys.exit(3)\n"
    f"    if line.startswith(b'{START} '): break\n"
    "exec(compile(r.read(int(line.split()[1])), 'holder.py', 'exec'))\n"
)
ANSWER_SECONDS = 60
SSH_FAILED = 255


class ActionModule(ActionBase):
    """Starts the holder on the host and returns when it has the lock."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        variables = task_vars or {}
        result = super().run(tmp, variables)
        _, options = self.validate_argument_spec(ARGUMENTS)
        if self._task.check_mode:
            raise AnsibleActionSkip("a dry run changes nothing, so it needs no lock.")
        host = variables["inventory_hostname"]
        if options["reboot"]:
            return result | {"changed": False, "locked": host in LIFELINES.held, "reboot": True}
        if host in LIFELINES.held:
            return result | {"changed": False, "locked": True}
        pair = LIFELINES.pair(host)
        if pair is None:
            raise AnsibleActionFail(
                "The callback plugin openmates_changes, which keeps the lock, is not loaded. It is in callback_plugins,"
                " beside this project's playbooks: run one of them, or import it."
            )
        event = self._ask(pair, self._request(options), options["wait"], host)
        if event["event"] == "refused":
            return result | {"failed": True, "msg": refusal(host, event["holder"], options["wait"])}
        if event["left"]:
            Display().warning(
                f"{host}: an earlier run did not end: {told(event['left'])}. The history has it as interrupted."
            )
        command = partial(commands.command, variables=variables)
        if moved := move.refusal(host, event.get("move") or {}, verb(self._task.get_path()), command):
            return result | {"failed": True, "msg": f"{host} was not changed: {moved}"}
        return result | {"changed": False, "locked": True}

    def _request(self, arguments: dict) -> dict:
        """What the holder needs, without any value of the run's variables."""
        options = [
            f"--{name.replace('_', '-')} {','.join(sorted(given))}"
            for name in ("tags", "skip_tags")
            if (given := set(context.CLIARGS.get(name) or ()) - {"all"})
        ]
        run = {
            "verb": verb(self._task.get_path()),
            "options": options,
            "who": operator(),
            "project": project_version(),
            "id": LIFELINES.run,
        }
        return {"run": run, **arguments}

    def _ask(self, pair: tuple[socket.socket, socket.socket], request: dict, wait: float, host: str) -> dict:
        """Start the holder; its first decisive event. Raises AnsibleActionFail if it does not start."""
        ours, theirs = pair
        program = Path(holder.__file__).read_bytes()
        with tempfile.TemporaryFile() as errors:  # not a pipe: ssh writes there when the worker has ended
            process = subprocess.Popen(
                self._command(f"python3 -c {shlex.quote(LOADER)}"),
                stdin=theirs,
                stdout=theirs,
                stderr=errors,
                start_new_session=True,
            )
            theirs.close()
            try:
                ours.settimeout(wait + ANSWER_SECONDS)
                start = f"{START} {len(program)}\n".encode()
                ours.sendall(self._password() + start + program + json.dumps(request).encode() + b"\n")
                for event in events(ours):
                    if event["event"] != "waiting":
                        return event
                    Display().display(f"[{host}] waiting for up to {wait:.0f} s: {told(event['holder'])}")
                status = process.wait(ANSWER_SECONDS)
                said = f"exit status {status}"
            except (OSError, subprocess.TimeoutExpired) as error:
                process.kill()
                status, said = process.wait(), str(error)
            errors.seek(0)
            words = errors.read().decode(errors="replace").strip()[-500:]
        if status == SSH_FAILED and self._connection.transport == "ssh":
            raise AnsibleConnectionFailure(words)
        raise AnsibleActionFail(f"The lock of {host} could not be taken ({said}). {words}".strip())

    def _password(self) -> bytes:
        """The password that sudo reads first, if it needs one."""
        become = self._connection.become
        word = become.get_option("become_pass", playcontext=self._play_context) if become else None
        return f"{word}\n".encode() if word else b""

    def _command(self, command: str) -> list[str]:
        """The local command that runs a command on the host, as the task's tasks are run."""
        become, user = self._connection.become, self._get_remote_user()
        if become and (C.BECOME_ALLOW_SAME_USER or self.get_become_option("become_user") != user):
            command = become.build_become_command(command, self._connection._shell)
        command = f"/bin/sh -c {shlex.quote(command)}"
        if self._connection.transport == "local":
            return ["/bin/sh", "-c", command]
        if self._connection.transport != "ssh":
            raise AnsibleActionFail(
                f"The lock needs a connection that stays open, which {self._connection.transport} is not. Use ssh."
            )
        ssh = self._ssh(user)
        host = ssh.get_option("host")
        ssh.host = host
        return ssh._build_command(ssh.get_option("ssh_executable"), "ssh", host, command)

    def _ssh(self, user: str) -> ConnectionBase:
        """The task's connection without its password, which ssh does not need: it shares the connection that exists."""
        play_context = self._play_context.copy()
        play_context.password = ""
        return connection_as(self._connection, play_context, user, password=None)


def verb(path: str) -> str:
    """The playbook's name from the path of its task."""
    return Path(path.rpartition(":")[0]).stem


def told(run: t.Mapping[str, t.Any]) -> str:
    """Which run this is, for an operator."""
    if not run:
        return "another run"
    client = f", from {run['from']}" if run.get("from") else ""
    options = "".join(f" {option}" for option in run.get("options") or ())
    return f"{run.get('verb')}{options} by {run.get('who')}{client}, since {run.get('begun')}"


def refusal(host: str, run: t.Mapping[str, t.Any], wait: float) -> str:
    waited = f" after {wait:.0f} s" if wait else ""
    return (
        f"{host} is still being changed{waited}: {told(run)}. Nothing was changed. Run this again when that run has"
        " ended, or let it wait: -e openmates_lock_wait=600. The lock of a run that was killed is freed at once, and"
        " that of a run whose machine or network failed within four minutes."
    )
