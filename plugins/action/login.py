# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the user that a server accepts, on the controller."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.login import (
    CLOSED,
    OTHER_USER,
    Login,
    attempt,
    connection_as,
)

REMEDIES = {
    "host key verification failed": "This machine does not know the server's SSH host key, or knows another one. If "
    "the server was reinstalled, remove the old key with `ssh-keygen -R ADDRESS`. Then log in once by hand.",
    "no matching": "This machine's ssh is too old for the server. Use OpenSSH 9.0 or later.",
    "could not resolve": "Correct ansible_host in the inventory.",
    CLOSED: "Check that sshd listens on this port (openmates_ssh_port).",
}
NO_ANSWER = "Check that the server is up, that its address is right, and that openmates_ssh_sources has this machine."
LET_IN = "Add an accepted key to ssh-agent, or set ansible_ssh_private_key_file to it."


class ActionModule(ActionBase):
    """Tries the users in turn and returns the first that can log in."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "users": {"type": "list", "elements": "str", "required": True},
                "timeout": {"type": "int", "default": 10},
            }
        )
        tried: dict[str, Login] = {}
        for user in dict.fromkeys(arguments["users"]):
            options = {"timeout": arguments["timeout"], "reconnection_retries": 0}
            tried[user] = attempt(connection_as(self._connection, self._play_context, user, **options), "true")
            if tried[user].worked:
                return result | {"changed": False, "user": user}
            if not tried[user].refused:
                break  # another user would fail as well
        return result | {"failed": True, "msg": self._explain(tried, task_vars["inventory_hostname"])}

    def _explain(self, tried: dict[str, Login], host: str) -> str:
        address = self._connection.get_option("host")
        port = self._connection.get_option("port") or 22
        last = list(tried.values())[-1]
        found = [remedy for sign, remedy in REMEDIES.items() if sign in last.message.lower()]
        remedy = found[0].replace("ADDRESS", address) if found else (LET_IN if last.refused else NO_ANSWER)
        other = [found[1] for login in tried.values() if (found := OTHER_USER.search(login.message))]
        if other:
            remedy = f"Set openmates_ssh_initial_user: {other[0]}"
        what = "accepts none of the users" if last.refused else "cannot be reached"
        attempts = "; ".join(f"as {user}: {login.message}" for user, login in tried.items())
        return f"{host} ({address}, port {port}) {what}. Tried {attempts}. {remedy}"
