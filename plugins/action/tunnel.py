# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open a tunnel to an internal tool and keep it open, on the controller."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.modules.tunnel import ARGUMENTS
from ansible_collections.openmates.server.plugins.plugin_utils import commands, tunnel
from ansible_collections.openmates.server.plugins.plugin_utils.login import FRESH, connection_as


class ActionModule(ActionBase):
    """Runs ssh as the task's connection does, until the run is interrupted."""

    _supports_check_mode = False
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        parent = os.getppid()
        result = super().run(tmp, task_vars)
        if result.get("skipped"):
            return result
        _, given = self.validate_argument_spec(ARGUMENTS)
        destination = tunnel.Destination(given["name"], given["address"], given["port"])
        try:
            port = tunnel.local_port(given["local_port"], given["preferred_ports"])
            with tunnel.opened(self._command(destination, port), destination, port) as process:
                url = f"http://{tunnel.LOOPBACK}:{port}"
                Display().display(f"{destination.name} of {task_vars['inventory_hostname']}: {url}/")
                Display().display(given["login"] + self._password(given["password"], task_vars))
                Display().display("The tunnel is open until Ctrl-C.")
                status = tunnel.stay(process, parent)
        except tunnel.TunnelProblem as problem:
            return result | {"failed": True, "msg": f"{task_vars['inventory_hostname']}: {problem}"}
        return result | {"failed": True, "msg": f"The tunnel to {destination.name} was closed (ssh: status {status})."}

    @staticmethod
    def _password(variable: str, task_vars: dict) -> str:
        return f" `{commands.show_variable(variable, task_vars)}` shows the password." if variable else ""

    def _command(self, destination: tunnel.Destination, port: int) -> list[bytes]:
        """ssh with the inventory's user, key, port, options and bastion, on a connection of its own."""
        play_context = self._play_context.copy()
        play_context.password = ""  # the server takes keys only
        ssh = connection_as(self._connection, play_context, self._get_remote_user(), password=None, **FRESH)
        ssh.host = host = ssh.get_option("host")
        options = tunnel.forwarding(destination, port)
        return ssh._build_command(ssh.get_option("ssh_executable"), "ssh", *options, host)
