# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in to a server as another user than the task's, without Ansible marking the server as unreachable."""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.loader import connection_loader

#: ssh's messages when a server was reached and refused the user.
REFUSED = re.compile(r"permission denied|too many authentication failures|not allowed at this time", re.IGNORECASE)
#: ssh's messages when the port is closed, as for a moment while sshd is reloaded.
CLOSED = "connection refused"
#: No connection is shared with an earlier login, even if the operator's ssh_config enables that.
FRESH = {"ssh_args": "-o ControlMaster=no -o ControlPath=none", "control_path": "none"}


class Login(t.NamedTuple):
    """How an attempt to log in and run a command ended."""

    worked: bool
    refused: bool  # the server was reached, and this user may not log in
    message: str  # the last words of ssh or the command
    said: str = ""  # all of them
    logged_in: bool = False  # the login succeeded, whether or not the command did


def connection_as(connection: t.Any, play_context: t.Any, user: str, **options: t.Any) -> t.Any:
    """A connection like the task's, except for the user and the given options."""
    other = connection_loader.get(connection.ansible_name, play_context, None)
    other.set_options(direct=connection.get_options() | {"remote_user": user} | options)
    other.set_become_plugin(connection.become)
    other._shell = connection._shell
    return other


def command_line(connection: t.Any, user: str) -> str:
    """The command with which an operator logs in at a terminal, as the connection does."""
    command = ["ssh"]
    for name in ("ssh_common_args", "ssh_extra_args"):
        command += shlex.split(connection.get_option(name) or "")
    key, port = connection.get_option("private_key_file"), int(connection.get_option("port") or 22)
    command += ["-i", str(key)] if key else []
    command += ["-p", str(port)] if port != 22 else []
    return shlex.join([*command, f"{user}@{connection.get_option('host')}"])


def attempt(connection: t.Any, command: str) -> Login:
    """Log in and run a command."""
    try:
        code, output, errors = connection.exec_command(command, sudoable=False)
    except AnsibleConnectionFailure as error:
        said = str(error)
        return Login(False, bool(REFUSED.search(said)), last_words(said), said)
    said = (output + b"\n" + errors).decode(errors="replace").strip()
    return Login(code == 0, False, last_words(said) or f"exit code {code}", said, True)


def last_words(text: str) -> str:
    """The last lines of what ssh printed: banners and debugging come before."""
    text = text.removeprefix("Failed to connect to the host via ssh: ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("debug")]
    return " ".join(lines[-3:]).rstrip(".")
