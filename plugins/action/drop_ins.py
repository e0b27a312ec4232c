# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a local directory of templates and pass all files to the drop_ins module in one call."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.openmates.server.plugins.action import file_tree


class ActionModule(file_tree.ActionModule):
    """Turns ``src`` into ``files``, as file_tree's plugin does; the module handles all other options."""

    def run(self, tmp=None, task_vars=None):
        arguments = dict(self._task.args)
        source, exclude = arguments.pop("src", None), arguments.pop("exclude", None) or []
        if source:
            rendered = self._render(Path(source), exclude, task_vars or {})
            # A drop-in's mode does not follow from its name: files in /etc/profile.d are sourced, not executed.
            arguments["files"] = [{**file, "mode": None} for file in rendered] + list(arguments.get("files") or [])
        return self._execute_module(module_name="openmates.server.drop_ins", module_args=arguments, task_vars=task_vars)
