# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs a playbook, where, and which version of this project it is."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from pathlib import Path

COLLECTION = Path(__file__).resolve().parents[2]
GIT_SECONDS = 5


def operator() -> str:
    """The user and the name of this machine, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def project_version(collection: Path = COLLECTION) -> str:
    """The version of the collection, in a checkout with its commit: `0.1.0 d32326e`, and `+` if files were changed."""
    return " ".join(part for part in (_version(collection), _commit(collection)) if part)


def _version(collection: Path) -> str:
    try:
        return str(json.loads((collection / "MANIFEST.json").read_text())["collection_info"]["version"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        found = re.search(r"^version:\s*(\S+)", (collection / "galaxy.yml").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def _commit(collection: Path) -> str:
    """The commit of a checkout; empty for an installed collection, which may be inside a repository of the operator."""
    if not (collection / ".git").exists():
        return ""
    command = ["git", "-C", str(collection), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
