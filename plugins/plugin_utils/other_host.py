# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on another host than the task's, over a connection of its own."""

from __future__ import annotations

import typing as t

from ansible import constants as C
from ansible.plugins.loader import become_loader, connection_loader

NOTHING = b"\n"  # with input there is no terminal, which would change what is printed


class OtherHost:
    """A host of the inventory, reached as its variables say, with the become settings of the task."""

    def __init__(self, name: str, task: t.Any, play_context: t.Any, variables: t.Mapping[str, t.Any]) -> None:
        """`variables`: the host's."""
        self.name = name
        kind = variables.get("ansible_connection") or C.DEFAULT_TRANSPORT
        self.connection = connection_loader.get(kind, play_context.copy(), None)
        keys = {key: value for key, value in task.dump_attrs().items() if key in ("remote_user", "port")}
        self.connection.set_options(task_keys=keys, var_options=_chosen("connection", self.connection, variables))
        become = None
        if variables.get("ansible_become", task.become):
            become = become_loader.get(variables.get("ansible_become_method") or task.become_method or "sudo")
            keys = {key: value for key, value in task.dump_attrs().items() if key.startswith("become")}
            become.set_options(task_keys=keys, var_options=_chosen("become", become, variables))
            # As Ansible does: a server on which root logs in may have no sudo.
            if become.get_option("become_user") == self._user() and not C.BECOME_ALLOW_SAME_USER:
                become = None
        self.become = become
        self.connection.set_become_plugin(become)

    def _user(self) -> str | None:
        """The login user, if it is known here: the configuration of ssh may name it."""
        try:
            return self.connection.get_option("remote_user")
        except KeyError:
            return getattr(self.connection, "default_user", None)

    def output(self, command: str) -> tuple[int, str, str]:
        """Status, output and errors of a command of the shell."""
        line = self.become.build_become_command(command, self.connection._shell) if self.become else command
        status, output, errors = self.connection.exec_command(line, in_data=NOTHING)
        text = output.decode("ascii", errors="replace")
        if self.become and self.become.success in text:
            text = text.partition(self.become.success)[2]
        return status, text, errors.decode(errors="replace")

    def close(self) -> None:
        self.connection.close()


def _chosen(kind: str, plugin: t.Any, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The variables that a plugin reads its options from."""
    return {name: variables[name] for name in C.config.get_plugin_vars(kind, plugin._load_name) if name in variables}
