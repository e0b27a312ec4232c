# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of guarded_files: verify by a new login that the server can still be administered."""

from __future__ import annotations

import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.plugin_utils.login import CLOSED, FRESH, Login, attempt, connection_as

#: Command that verifies administrative access.
PROOF = "sudo -n true"
LOGIN_SECONDS = 10
#: Seconds beyond the host's deadline that the rollback may take.
PATIENCE_SECONDS = 60
#: sshd penalises an address whose logins are refused too often.
PAUSE_SECONDS = 3
#: Seconds between attempts while the port is closed.
CLOSED_PAUSE_SECONDS = 0.5


class ActionModule(ActionBase):
    """Changes the files, logs in again, and then disarms the rollback or waits until it is complete."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments.setdefault("seconds", 60)
        name, prover = arguments["name"], arguments.get("login_user")
        seconds = int(arguments["seconds"])
        self.former = self._connection.get_option("remote_user") if self._connection.transport == "ssh" else None
        if prover and not self.former:
            return {"failed": True, "msg": f"{name} can only be changed over SSH: a login must confirm the change."}
        self.task_vars = task_vars
        try:
            result = self._module(arguments)
        except AnsibleConnectionFailure:  # the change may have closed the connection that made it
            result = self._again(arguments, prover)
        if not prover or not result.get("armed") or result.get("failed"):
            return result
        login = self._prove(prover)
        if not login.worked:
            why = self._roll_back(name, prover, seconds, login)
            return result | {"failed": True, "armed": False, "msg": f"{why} {arguments.get('remedy') or ''}".rstrip()}
        # As the user whose login was just verified: the task's own user may be refused by now.
        self._connection = connection_as(self._connection, self._play_context, prover)
        proven = self._module({"name": name, "state": "proven"})
        return proven if proven.get("failed") else result | {"armed": False}

    def _again(self, arguments: dict, prover: str | None) -> dict:
        """Resume a change whose connection broke, over a new login if one succeeds."""
        if not prover or not self._prove(prover).worked:
            return {"changed": True, "armed": True}
        self._connection = connection_as(self._connection, self._play_context, prover, **FRESH)
        return self._module(arguments)

    def _module(self, arguments: dict) -> dict:
        return self._execute_module(
            module_name="openmates.server.guarded_files", module_args=arguments, task_vars=self.task_vars
        )

    def _prove(self, user: str) -> Login:
        """Log in and use sudo. The change may reload sshd, which closes its port for a moment."""
        deadline = time.monotonic() + LOGIN_SECONDS
        while True:
            login = self._log_in(user, PROOF)
            if login.worked or CLOSED not in login.message.lower() or time.monotonic() > deadline:
                return login
            time.sleep(CLOSED_PAUSE_SECONDS)

    def _log_in(self, user: str, command: str) -> Login:
        options = FRESH | {"timeout": LOGIN_SECONDS, "reconnection_retries": 0}
        return attempt(connection_as(self._connection, self._play_context, user, **options), command)

    def _roll_back(self, name: str, prover: str, seconds: int, refused: Login) -> str:
        """Restore the former state, over the old connection or by the host's own timer. Returns the message."""
        began = time.monotonic()
        try:
            asked = not self._module({"name": name, "state": "restored"}).get("failed")
        except AnsibleConnectionFailure:
            asked = False
        how = "at once" if asked else "by the host's timer"
        deadline = began + seconds + PATIENCE_SECONDS
        what = f"With the new configuration of {name}, {prover} could not log in and use sudo: {refused.message}."
        while True:
            # On a first run the former user may be refused by now, by a change that was confirmed.
            for user in dict.fromkeys((self.former, prover)):
                login = self._log_in(user, "true")
                if login.worked:
                    took = time.monotonic() - began
                    return f"{what} It was rolled back {how}, and {user} can log in as before ({took:.0f} s)."
            if time.monotonic() > deadline:
                took = time.monotonic() - began
                return (
                    f"{what} {took:.0f} s later no login succeeds ({login.message}). Use the server's console; "
                    f"see `sudo journalctl -u openmates-guard@{name}`."
                )
            time.sleep(PAUSE_SECONDS)
