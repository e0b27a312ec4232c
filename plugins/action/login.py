# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the user that a server accepts, on the controller."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.commands import command
from ansible_collections.openmates.server.plugins.plugin_utils.login import FRESH, Login, attempt, connection_as
from ansible_collections.openmates.server.plugins.plugin_utils.ssh_messages import ended_at_bastion, meaning


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
        tried: dict[str, Login] = {}
        for user in dict.fromkeys(arguments["users"]):
            options = {"timeout": arguments["timeout"], "reconnection_retries": 0}
            connection = connection_as(self._connection, self._play_context, user, **options)
            tried[user] = attempt(connection, self._command(user))
            if tried[user].worked:
                return result | {"changed": False, "user": user}
            if arguments["bastion"] and ended_at_bastion(tried[user].said):
                # ssh discards what its ProxyCommand prints, as long as it shares the connection with later ones.
                fresh = connection_as(self._connection, self._play_context, user, **options, **FRESH)
                tried[user] = attempt(fresh, self._command(user))
                break
            if not tried[user].refused and not tried[user].logged_in:
                break  # another user would fail as well
        return result | {"failed": True, "msg": self._explain(tried, task_vars, arguments["bastion"])}

    def _command(self, user: str) -> str:
        """What the tasks that follow need: to become root, unless the user is root or a password for sudo is given."""
        become = self._connection.become
        needs_none = user == "root" or (become and become.get_option("become_pass", playcontext=self._play_context))
        return "true" if needs_none else "sudo -n true"

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
                bootstrap=f"`{command('bootstrap', task_vars)}`",
            )
            for user, login in tried.items()
        }
        # The last user is the one that a new server lets in. A user that could log in tells more than others.
        user = next((user for user, login in tried.items() if login.logged_in), list(tried)[-1])
        attempts = "; ".join(f"as {user}: {login.message}" for user, login in tried.items())
        host = task_vars["inventory_hostname"]
        return f"{host} ({address}, port {port}) {causes[user].what}. Tried {attempts}. {causes[user].remedy}"
