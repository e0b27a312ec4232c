# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the SSH host key of a server, and look it up among the known ones."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import typing as t
from collections.abc import Sequence

from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically

#: The only kind that a hardened server has (roles/ssh). Debian makes one at the first boot.
KIND = "ssh-ed25519"
#: Options that come before all others, because ssh takes the first value that it reads: no shared connection, no login.
FETCH = ("ControlMaster=no", "ControlPath=none", "BatchMode=yes", "PreferredAuthentications=none", "HashKnownHosts=no")


class Failed(Exception):
    """ssh ended before the server had shown its key; the message is what ssh printed."""


class HostKey(t.NamedTuple):
    """A line of known_hosts: the server's name there, and its key."""

    name: str
    key: str  # base64

    @property
    def line(self) -> str:
        return f"{self.name} {KIND} {self.key}"

    @property
    def fingerprint(self) -> str:
        """SHA256:..., as ssh and the consoles of providers show it."""
        return _run(["ssh-keygen", "-l", "-f", "-"], f"{KIND} {self.key}\n").stdout.split()[1]


def fetch(arguments: Sequence[str], host: str, seconds: int) -> HostKey:
    """The key that the server shows now. ``arguments``: those of ssh that lead to the server. Raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "known_hosts")
        own = [*FETCH, "StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=none"]
        own += [f"HostKeyAlgorithms={KIND}", f"ConnectTimeout={seconds}"]
        result = _run(["ssh", *(word for option in own for word in ("-o", option)), *arguments, host, "true"])
        words = file.read_text().split() if file.exists() else []
    if len(words) < 3:
        raise Failed(result.stderr)
    return HostKey(words[0], words[2])


def known(arguments: Sequence[str], host: str, name: str, pinned: pathlib.Path) -> dict[str, pathlib.Path]:
    """The keys that this machine knows of a server, each with the file that holds it.

    name: the server's name in known_hosts. pinned: a file to search besides those that ssh reads.
    """
    settings = _run(["ssh", "-G", *arguments, host]).stdout.splitlines()
    files = [word for line in settings if "knownhostsfile " in line for word in line.split(" ")[1:]]
    found = {}
    for path in dict.fromkeys([*(pathlib.Path(file).expanduser() for file in files), pinned]):
        if path.is_file():
            for line in _run(["ssh-keygen", "-F", name, "-f", str(path)]).stdout.splitlines():
                words = line.split()
                if KIND in words and not line.startswith(("#", "@")):
                    found[words[words.index(KIND) + 1]] = path
    return found


def add(file: pathlib.Path, key: HostKey) -> None:
    """Append the key to a file of known hosts, which is replaced as a whole or not at all."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, ("\n".join([*lines, key.line]) + "\n").encode(), 0o644)


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
