# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in to a server as another user than a task does, without Ansible calling the server unreachable."""

from __future__ import annotations

import re
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.loader import connection_loader

#: What ssh says when a server was reached and did not let the user in.
REFUSED = re.compile(r"permission denied|too many authentication failures|not allowed at this time", re.IGNORECASE)
#: What ssh says when nothing listens on the port, as for a moment while sshd is reloaded.
CLOSED = "connection refused"
#: Nothing is shared with a login that was opened before, not even if the operator's own ssh_config says so.
FRESH = {"ssh_args": "-o ControlMaster=no -o ControlPath=none", "control_path": "none"}


class Login(t.NamedTuple):
    """How an attempt to log in and run a command ended."""

    worked: bool
    refused: bool  # the server was reached, and this user may not log in
    message: str  # what ssh, or the command, said


def connection_as(connection: t.Any, play_context: t.Any, user: str, **options: t.Any) -> t.Any:
    """A connection like the task's, but for the user and the given options."""
    other = connection_loader.get(connection.ansible_name, play_context, None)
    other.set_options(direct=connection.get_options() | {"remote_user": user} | options)
    other.set_become_plugin(connection.become)
    other._shell = connection._shell
    return other


def attempt(connection: t.Any, command: str) -> Login:
    """Log in and run a command."""
    try:
        code, _, errors = connection.exec_command(command, sudoable=False)
    except AnsibleConnectionFailure as error:
        message = last_words(str(error))
        return Login(False, bool(REFUSED.search(message)), message)
    return Login(code == 0, False, last_words(errors.decode(errors="replace")) or f"exit code {code}")


def last_words(text: str) -> str:
    """The last lines of what ssh printed: banners and debugging come before."""
    text = text.removeprefix("Failed to connect to the host via ssh: ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("debug")]
    return " ".join(lines[-3:]).rstrip(".")
