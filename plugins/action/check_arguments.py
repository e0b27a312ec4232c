# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the arguments of a playbook before any connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.playbook.block import Block
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.openmates.server.plugins.plugin_utils import verb_arguments
from ansible_collections.openmates.server.plugins.plugin_utils.commands import command, playbook

COLLECTION = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """Compares the given arguments with the playbook's declaration."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "arguments": {"type": "dict", "default": {}},
                "example": {"type": "str", "default": ""},
            }
        )
        declared = {name: _argument(name, spec) for name, spec in options["arguments"].items()}
        files = [*COLLECTION.glob("roles/*/defaults/**/*.yml"), *COLLECTION.glob("playbooks/group_vars/**/*.yml")]
        wrong = list(
            verb_arguments.problems(
                declared,
                values={name: self._value(task_vars[name]) for name in declared if name in task_vars},
                given=load_extra_vars(self._loader),
                known=verb_arguments.names_in(files) | set(self._task.play.vars),
            )
        )
        wrong += verb_arguments.tag_problems(context.CLIARGS, tags_of(self._task.play.tasks))
        if wrong:
            verb = Path(self._task.get_path().rpartition(":")[0]).stem
            example = f"{command(verb, task_vars)} {options['example']}".rstrip()
            return result | {
                "failed": True,
                "msg": verb_arguments.explanation(playbook(verb), wrong, declared, example),
            }
        return result | {"changed": False}

    def _value(self, value):
        """The value, or None for a role's default that depends on facts which are gathered later."""
        try:
            return self._templar.template(value)
        except AnsibleUndefinedVariable:
            return None


def tags_of(tasks: Iterable) -> set[str]:
    """The tags of tasks and of all tasks in blocks, which is what an imported role is too."""
    return {tag for task in tasks for tag in _tags(task)}


def _tags(task) -> Iterator[str]:
    if isinstance(task, Block):
        yield from tags_of([*task.block, *task.rescue, *task.always])
    else:
        yield from task.tags


def _argument(name: str, spec: dict) -> dict:
    """A declared argument with its defaults. Raises AnsibleActionFail for a declaration that is itself wrong."""
    checked = ArgumentSpecValidator(verb_arguments.SPEC).validate(spec)
    if checked.error_messages:
        raise AnsibleActionFail(f"arguments.{name}: {'; '.join(checked.error_messages)}")
    return checked.validated_parameters
