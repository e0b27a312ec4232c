# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show which task is running while nothing else is printed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Show which task is running while nothing else is printed
description:
  - Ansible prints a task's result when the task has ended. This callback prints a line with the task, its hosts and
    the elapsed time whenever a task has run for O(every) seconds, and again after each further O(every) seconds.
  - Writes to standard error, so that a program can read the output of another callback from standard output.
  - Does not change the order, the results or the exit status of a run.
options:
  every:
    description: Seconds between two lines. V(0) shows none.
    type: float
    default: 15
    env: [{name: OPENMATES_PROGRESS_EVERY}]
    ini: [{section: callback_openmates_progress, key: every}]
requirements: ["C(callbacks_enabled = openmates.server.progress) in the C([defaults]) of ansible.cfg"]
author: [The openmates.server contributors]
"""

import threading
import time

from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display

ENDLESS = ("openmates.server.tunnel",)  # an operator ends it
LOOK_EVERY = 1.0  # seconds; waking up costs next to nothing


class Running:
    """The tasks that run now and the hosts on which they do, with the time of the last line about each task."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.names: dict[str, str] = {}
        self.began: dict[str, dict[str, float]] = {}
        self.shown: dict[str, float] = {}

    def announce(self, task: str, name: str) -> None:
        """Note a task's name as it is printed, with its variables' values."""
        self.names = {**{known: self.names[known] for known in list(self.began) if known in self.names}, task: name}

    def start(self, task: str, host: str, now: float) -> None:
        with self.lock:
            self.began.setdefault(task, {})[host] = now

    def end(self, task: str, host: str) -> None:
        with self.lock:
            self.began.get(task, {}).pop(host, None)
            if not self.began.get(task):
                self.began.pop(task, None)
                self.shown.pop(task, None)

    def due(self, now: float, every: float) -> list[str]:
        """A line per task about which nothing was printed for this long."""
        lines = []
        with self.lock:
            for task, hosts in self.began.items():
                first = min(hosts.values())
                if now - self.shown.get(task, first) >= every:
                    self.shown[task] = now
                    name = self.names.get(task, "a task")
                    lines.append(f"... {name} [{', '.join(sorted(hosts))}], {now - first:.0f} s")
        return lines


class CallbackModule(CallbackBase):
    """Follows the tasks from a thread of its own."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "openmates.server.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.running = Running()
        self.ended = threading.Event()

    def v2_playbook_on_start(self, playbook) -> None:
        every = float(self.get_option("every"))
        if every > 0:
            threading.Thread(target=self._watch, args=(every,), daemon=True).start()

    def v2_playbook_on_task_start(self, task, is_conditional: bool) -> None:
        self.running.announce(task._uuid, task.get_name().strip())

    def v2_playbook_on_handler_task_start(self, task) -> None:
        self.running.announce(task._uuid, task.get_name().strip())

    def v2_runner_on_start(self, host, task) -> None:
        if task.action not in ENDLESS:
            self.running.start(task._uuid, host.get_name(), time.monotonic())

    def _task_ended(self, result) -> None:
        self.running.end(result.task._uuid, result.host.get_name())

    def v2_runner_on_ok(self, result) -> None:
        self._task_ended(result)

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        self._task_ended(result)

    def v2_runner_on_skipped(self, result) -> None:
        self._task_ended(result)

    def v2_runner_on_unreachable(self, result) -> None:
        self._task_ended(result)

    def v2_playbook_on_stats(self, stats) -> None:
        self.ended.set()

    def _watch(self, every: float) -> None:
        # Display alone takes part in Ansible's own locking, which keeps a fork from happening while a line is written.
        while not self.ended.wait(min(LOOK_EVERY, every)):
            for line in self.running.due(time.monotonic(), every):
                Display().display(line, stderr=True)
