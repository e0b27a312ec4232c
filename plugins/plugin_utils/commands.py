# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that messages tell an operator to run, as they work where the operator is."""

from __future__ import annotations

import os
import shlex
import typing as t
from collections.abc import Mapping
from pathlib import Path

from ansible import constants as C
from ansible import context

NAME = "openmates.server"
COLLECTION = Path(__file__).resolve().parents[2]


def playbook(verb: str) -> str:
    """What ``ansible-playbook`` calls the playbook of a verb: by name if installed, by path in a checkout."""
    started = (context.CLIARGS.get("args") or ("",))[0]
    if "ansible_collections" in COLLECTION.parts or str(started).startswith(f"{NAME}."):
        return f"{NAME}.{verb}"
    return shown(COLLECTION / ("site.yml" if verb == "site" else f"playbooks/{verb}.yml"))


def command(verb: str, variables: Mapping[str, t.Any]) -> str:
    """The whole command, with the inventories of this run. ``variables``: those of the task or the template."""
    return shlex.join(["ansible-playbook", playbook(verb), *inventories(variables)])


def show_variable(name: str, variables: Mapping[str, t.Any]) -> str:
    """The command that shows the value of a variable of a host, such as a secret, to an operator who may decrypt it."""
    host = variables["inventory_hostname"]
    return shlex.join(["ansible", host, *inventories(variables), "-m", "debug", "-a", f"var={name}"])


def inventories(variables: Mapping[str, t.Any]) -> list[str]:
    """The options that name the inventories of this run."""
    sources = [str(source) for source in variables.get("ansible_inventory_sources") or ()]
    # Those of ansible.cfg or the environment need no option.
    return [part for source in sources if source not in (C.DEFAULT_HOST_LIST or ()) for part in ("-i", shown(source))]


def shown(path: str | Path) -> str:
    """A path relative to the present directory, if it is below, also through a link such as `prod`."""
    path = str(path)
    if "," in path:  # a list of hosts in place of a file
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
