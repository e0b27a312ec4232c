# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what a playbook reports, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: stdout
short_description: Print what a playbook reports, and nothing else
version_added: 0.1.0
description:
  - Writes the messages of M(ansible.builtin.debug) to standard output, so that another program can read them.
  - Errors go to standard error. Names of tasks and the recap are left out.
  - For playbooks that only read, such as C(openmates.server.status). One that changes a server shows what it does.
requirements: ["C(ANSIBLE_STDOUT_CALLBACK=openmates.server.report) in the environment"]
author: [The openmates.server contributors]
"""

from ansible.plugins.callback import CallbackBase

REPORTS = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")


class CallbackModule(CallbackBase):
    """Prints messages."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "report"

    def v2_runner_on_ok(self, result) -> None:
        if result.task.action in REPORTS:
            self._display.display(str(result.result.get("msg", "")))

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._display.display(self._message(result), stderr=True)

    def v2_runner_on_unreachable(self, result) -> None:
        self._display.display(self._message(result), stderr=True)

    @staticmethod
    def _message(result) -> str:
        failed = [item for item in result.result.get("results") or () if item.get("failed")] or [result.result]
        return "\n".join(f"{result.task.get_name()}: {item.get('msg') or 'failed'}" for item in failed)
