# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out on the controller which user a server lets in."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.login import CLOSED, Login, attempt, connection_as

REMEDIES = {
    "host key verification failed": "The server shows another SSH host key than the one this machine knows. If the "
    "server was installed anew, remove the old key with `ssh-keygen -R ADDRESS`, and log in once by hand.",
    "no matching": "This machine's ssh is too old for the server. Use OpenSSH 9.0 or later.",
    "could not resolve": "Correct ansible_host in the inventory.",
    CLOSED: "Does sshd run there, on this port (openmates_ssh_port)?",
}
NO_ANSWER = "Is the server up, is its address right, and is this machine among openmates_ssh_sources?"
LET_IN = "Give the key that opens it to ssh-agent, or name it in ansible_ssh_private_key_file."


class ActionModule(ActionBase):
    """Tries the users in turn; the first that can log in is the answer."""

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
                break  # another user would fare no better
        return result | {"failed": True, "msg": self._explain(tried, task_vars["inventory_hostname"])}

    def _explain(self, tried: dict[str, Login], host: str) -> str:
        address = self._connection.get_option("host")
        port = self._connection.get_option("port") or 22
        last = list(tried.values())[-1]
        found = [remedy for sign, remedy in REMEDIES.items() if sign in last.message.lower()]
        remedy = found[0].replace("ADDRESS", address) if found else (LET_IN if last.refused else NO_ANSWER)
        what = "lets nobody in" if last.refused else "cannot be reached"
        attempts = "; ".join(f"as {user}: {login.message}" for user, login in tried.items())
        return f"{host} ({address}, port {port}) {what}. Tried {attempts}. {remedy}"
