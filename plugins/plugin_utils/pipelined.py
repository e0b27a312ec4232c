# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules whose arguments hold secrets: they go through the connection's standard input, never into a file."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class PipelinedAction(ActionBase):
    """Runs the module of the same name with pipelining, regardless of the configuration, or fails."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        """Return what the module does."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        return self.ask_host(self.arguments(self.completed(variables), variables), task_vars)

    def completed(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the task's arguments with what it leaves to its defaults."""
        return dict(self._task.args)

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the module's arguments from the task's."""
        return args

    def ask_host(self, args: dict[str, t.Any], task_vars: dict | None) -> dict:
        """Run the module and return its result."""
        return self._execute_module(module_name=self._task.action, module_args=args, task_vars=task_vars)

    def _execute_module(self, *arguments: t.Any, **options: t.Any) -> dict:
        self._require_pipelining()
        return super()._execute_module(*arguments, **options)

    def _require_pipelining(self) -> None:
        """Raises AnsibleActionFail where it is not possible."""
        if self._connection.has_pipelining:
            self._connection.set_option("pipelining", True)
        if not self._is_pipelining_enabled("new"):
            raise AnsibleActionFail(
                f"The arguments of {self._task.action} hold secrets, and without pipelining they would be in a file on"
                " the host. Pipelining is not possible with ANSIBLE_KEEP_REMOTE_FILES, with `su` as become_method, or"
                f" with a connection that cannot do it ({self._connection.transport}): change that and run again."
            )
