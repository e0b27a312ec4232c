# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a script of a role on the host in the background and show its progress."""

from __future__ import annotations

import shlex
import time

from ansible.errors import AnsibleActionFail, AnsibleActionSkip
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.modules.watched_script import ARGUMENTS

FIRST_PAUSE = 0.3  # seconds between the first two looks
LONGEST_PAUSE = 3.0
SHOW_EVERY = 12.0
PROGRESS = "progress: "
#: The shell that runs the script notes its own process and, last of all, the script's exit status.
START = "cd {chdir} && setsid --fork sh -c {body} < /dev/null > /dev/null 2>&1"
BODY = "echo $$ > {tmp}/pid; {command} > {tmp}/out 2> {tmp}/err; echo $? > {tmp}/rc.new; mv {tmp}/rc.new {tmp}/rc"
#: The status is read again after the process: it may have ended between the two.
LOOK = (
    "cat {tmp}/rc 2> /dev/null || {{ test ! -s {tmp}/pid || kill -0 $(cat {tmp}/pid) 2> /dev/null && echo running; }}"
    " || cat {tmp}/rc 2> /dev/null || echo gone; tail -n 1 {tmp}/err 2> /dev/null || true"
)


class ActionModule(ActionBase):
    """Starts the script, asks for its status until it has one, and returns its output."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = True

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        if self._task.check_mode:
            raise AnsibleActionSkip("check mode is not supported by this script.")
        folder = self._make_tmp_path()
        try:
            script = self._connection._shell.join_path(folder, "script")
            self._transfer_file(self._find_needle("files", options["src"]), script)
            self._fixup_perms2((folder, script))
            status = self._wait(
                folder, [options["executable"], script, *options["arguments"]], options, task_vars or {}
            )
            out, err = (self._on_host(f"cat {shlex.quote(folder)}/{name}") for name in ("out", "err"))
        finally:
            self._remove_tmp_path(folder)
        errors = [line for line in err.splitlines() if not line.startswith(PROGRESS)]
        lines = out.splitlines()
        return {"changed": True, "rc": status, "stdout": out, "stdout_lines": lines, "stderr": "\n".join(errors)}

    def _on_host(self, command: str) -> str:
        answer = self._low_level_execute_command(command)
        if answer["rc"]:
            raise AnsibleActionFail(f"`{command}` failed on the host: {answer['stderr'] or answer['stdout']}")
        return answer["stdout"]

    def _wait(self, folder: str, command: list[str], options: dict, task_vars: dict) -> int:
        """Run the command; returns its exit status. Raises AnsibleActionFail if its shell was killed."""
        quoted = shlex.quote(folder)
        body = BODY.format(tmp=quoted, command=shlex.join(command))
        self._on_host(START.format(chdir=shlex.quote(options["chdir"]), body=shlex.quote(body)))
        begin = shown = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            state, _, last = self._on_host(LOOK.format(tmp=quoted)).partition("\n")
            if state.strip().isdigit():
                return int(state)
            if state.strip() == "gone":
                raise AnsibleActionFail(f"{options['src']} was killed on the host")
            now = time.monotonic()
            if now - shown >= SHOW_EVERY:
                shown = now
                text = last.strip().removeprefix(PROGRESS) or f"{options['src']} runs"
                Display().display(f"[{task_vars.get('inventory_hostname', '')}] after {now - begin:.0f} s: {text}")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
