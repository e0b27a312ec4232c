# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the locks of the hosts that a run changes, and report its outcome to their history.

Ansible loads the callback plugins beside a playbook by itself, so that no ansible.cfg has to name this one.
"""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.plugin_utils.change.lifelines import LIFELINES
from ansible_collections.openmates.server.plugins.plugin_utils.change.outcome import OUTCOMES

DOCUMENTATION = r"""
name: openmates_changes
type: aggregate
short_description: Hold the locks of the hosts that a run changes, and report its outcome to their history
description:
  - Keeps the lock that the action plugin M(openmates.server.change_lock) takes until the run ends.
  - Reports which tasks changed something and whether the run failed. No results and no values of variables are
    reported.
author: [The openmates.server contributors]
"""

LOCK = "openmates.server.change_lock"
ANSWER_SECONDS = 15


class CallbackModule(CallbackBase):
    """Runs in the main process, before and after each worker."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "openmates_changes"

    def __init__(self) -> None:
        super().__init__()
        self.outcomes = OUTCOMES
        self.outcomes.begin()

    def v2_runner_on_start(self, host, task) -> None:
        LIFELINES.current = ""
        if task.action == LOCK:
            LIFELINES.prepare(host.get_name())

    def v2_playbook_on_task_start(self, task, is_conditional: bool) -> None:
        for host in LIFELINES.lost():
            Display().warning(
                f"{host}: the connection that held the lock of this run has ended. Another run can begin, and the"
                " history has this one as interrupted."
            )

    def v2_runner_on_ok(self, result) -> None:
        host = result.host.get_name()
        if result.task.action == LOCK:
            LIFELINES.settle(host, bool(result.result.get("locked")))
            if result.result.get("reboot"):
                LIFELINES.announce_reboot(host, ANSWER_SECONDS)
        elif result.is_changed():
            self.outcomes.changed(host, result.task.get_name())

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        self._failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result) -> None:
        self._failed(result, False)

    def v2_runner_on_skipped(self, result) -> None:
        if result.task.action == LOCK:
            LIFELINES.settle(result.host.get_name(), False)

    def _failed(self, result, ignored: bool) -> None:
        host = result.host.get_name()
        self.outcomes.uncertain(host)
        if result.task.action == LOCK:
            LIFELINES.settle(host, False)
        elif not ignored:
            self.outcomes.failed(host, result.task.get_name())

    def v2_playbook_on_stats(self, stats) -> None:
        for host in list(LIFELINES.held):
            outcome = self.outcomes.of(host, stats.summarize(host))
            problem = LIFELINES.release(host, outcome, ANSWER_SECONDS)
            if problem:
                Display().warning(f"{host}: the history does not have the outcome of this run: {problem}")
