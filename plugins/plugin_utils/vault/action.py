# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module for Vault takes from the role's variables: where Vault, its keys and its markers are."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction

CONNECTION = {"url": "vault_url", "gateway": "vault_gateway", "deadline": "vault_deadline"}
KEYS = {"keys_file": "vault_keys_file"}
MANAGED = {"access_file": "vault_access_file"}
STATE = {"state_directory": "vault_state_directory", "former_state_directory": "vault_compose_project_src"}


class VaultAction(PipelinedAction):
    """Completes the task's arguments from variables, so that a task names only what is its own."""

    #: The variable that gives the value of each option which the task does not name.
    defaults: t.ClassVar[dict[str, str]] = CONNECTION

    def completed(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the task's arguments with those defaults whose variables are set. Raises AnsibleActionFail."""
        given = self._task.args
        args = given | {
            option: self._templar.resolve_variable_expression(variable)
            for option, variable in self.defaults.items()
            if option not in given and variable in task_vars
        }
        if "keys_file" in self.defaults and not args.get("keys_file"):
            raise AnsibleActionFail("missing required arguments: keys_file")
        return args
