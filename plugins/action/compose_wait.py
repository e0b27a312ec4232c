# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for a Compose project's one-shots and show their progress: some take a quarter of an hour."""

from __future__ import annotations

import shlex
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.modules.compose_wait import ARGUMENTS

FIRST_PAUSE = 1.0  # seconds between the first two polls
LONGEST_PAUSE = 5.0  # seconds between two polls
SHOW_EVERY = 12.0


def running_one_shots(info: dict) -> list[str]:
    services = info.get("services") or {}
    return sorted(name for name, facts in services.items() if facts["one_shot"] and facts["state"] == "running")


def progress(service: str, log: str) -> str:
    """The progress in a log: the last line with the service's prefix, otherwise the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith(f"{service}: ")]
    if own:
        return own[-1].removeprefix(f"{service}: ")
    return lines[-1] if lines else "no output so far"


class ActionModule(ActionBase):
    """Polls compose_info until no one-shot runs."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        begin = shown = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            info = self._execute_module(
                module_name="openmates.server.compose_info",
                module_args={"project_src": options["project_src"]},
                task_vars=task_vars,
            )
            now = time.monotonic()
            running = running_one_shots(info)
            if info.get("failed") or not running or self._task.check_mode or now - begin >= options["timeout"]:
                return {**info, "waited": int(now - begin)}
            if now - shown >= SHOW_EVERY:
                shown = now
                self._show(running, options["project_src"], int(now - begin), task_vars or {})
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _show(self, running: list[str], folder: str, seconds: int, task_vars: dict) -> None:
        for service in running:
            command = ["docker", "compose", "--ansi=never", "logs", "--no-log-prefix", "--tail=80", service]
            answer = self._low_level_execute_command(f"cd {shlex.quote(folder)} && {shlex.join(command)}")
            host = task_vars.get("inventory_hostname", "")
            Display().display(f"[{host}] {service}, after {seconds} s: {progress(service, answer['stdout'])}")
