# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of maintenance: who asks for it."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.origin import operator


class ActionModule(ActionBase):
    """Adds the operator to the module's arguments."""

    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        """Return what the module does."""
        super().run(tmp, task_vars)
        return self._execute_module(module_args={"by": operator(), **self._task.args}, task_vars=task_vars)
