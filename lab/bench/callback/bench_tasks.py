"""Write how long each task took, with its role, as JSON to the file that BENCH_TASKS names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: bench_tasks
type: aggregate
short_description: Write how long each task took
description: For C(make bench).
"""


class CallbackModule(CallbackBase):
    """A task lasts until the next one begins. What comes before the first one is the start of Ansible."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[dict] = []
        self._begin("(start)", "Start Ansible and read the inventory")

    def _begin(self, role: str, name: str) -> None:
        now = time.monotonic()
        if self.tasks:
            self.tasks[-1]["seconds"] = now - self.tasks[-1]["begun"]
        self.tasks.append({"role": role, "name": name, "begun": now, "seconds": 0.0})

    def v2_playbook_on_task_start(self, task, is_conditional: bool) -> None:
        role = task._role.get_name() if task._role else "(playbook)"
        self._begin(role.removeprefix("openmates.server."), task.get_name().partition(" : ")[2] or task.get_name())

    def v2_playbook_on_stats(self, stats) -> None:
        self._begin("(end)", "Print the recap")
        Path(os.environ["BENCH_TASKS"]).write_text(json.dumps(self.tasks))
