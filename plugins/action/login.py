# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the user that a server accepts, on the controller."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.commands import command
from ansible_collections.openmates.server.plugins.plugin_utils.login import (
    FRESH,
    Login,
    attempt,
    command_line,
    connection_as,
)
from ansible_collections.openmates.server.plugins.plugin_utils.ssh_messages import ended_at_bastion, meaning

NOT_SSH = (
    "{host} is not reached by SSH, but a server is provisioned over SSH only: a change that would lock users out is"
    " taken back because a login fails. Set ansible_host to its address, remove ansible_connection, and run the"
    " playbook on another machine than the server."
)


class ActionModule(ActionBase):
    """Tries the users in turn and returns the first that can log in."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "users": {"type": "list", "elements": "str", "required": True},
                "timeout": {"type": "int", "default": 10},
                "bastion": {"type": "str", "default": ""},
            }
        )
        if self._connection.transport != "ssh":
            return result | {"failed": True, "msg": NOT_SSH.format(host=task_vars["inventory_hostname"])}
        tried: dict[str, Login] = {}
        for user in dict.fromkeys(arguments["users"]):
            options = {"timeout": arguments["timeout"], "reconnection_retries": 0}
            login = self._log_in(user, options)
            if arguments["bastion"] and ended_at_bastion(login.said):
                # ssh discards what its ProxyCommand prints, as long as it shares the connection with later ones.
                login = self._log_in(user, options | FRESH)
            tried[user] = login
            if login.worked:
                arguments = self._connection.get_option("ssh_extra_args") or ""
                return result | {"changed": False, "user": user, "ssh_extra_args": arguments}
            if ended_at_bastion(login.said) or not (login.refused or login.logged_in):
                break  # another user would fail as well
        return result | {"failed": True, "msg": self._explain(tried, task_vars, arguments["bastion"])}

    def _log_in(self, user: str, options: dict) -> Login:
        """Log in and become root as the tasks that follow do, unless they are given a password for sudo."""
        become = self._connection.become
        as_is = user == "root" or (become and become.get_option("become_pass", playcontext=self._play_context))
        connection = connection_as(self._connection, self._play_context, user, **options)
        return attempt(connection, "true" if as_is else "sudo -n true")

    def _explain(self, tried: dict[str, Login], task_vars: dict, bastion: str) -> str:
        address = self._connection.get_option("host")
        port = int(self._connection.get_option("port") or 22)
        causes = {
            user: meaning(
                login.said,
                address=address,
                port=port,
                user=user,
                bastion=bastion,
                logged_in=login.logged_in,
                login=command_line(self._connection, user),
                bootstrap=f"`{command('bootstrap', task_vars)}`",
            )
            for user, login in tried.items()
        }
        # The last user is the one that a new server lets in. A user that could log in tells more than others.
        user = next((user for user, login in tried.items() if login.logged_in), list(tried)[-1])
        attempts = "; ".join(f"as {user}: {login.message}" for user, login in tried.items())
        host = task_vars["inventory_hostname"]
        return f"{host} ({address}, port {port}) {causes[user].what}. Tried {attempts}. {causes[user].remedy}"
