# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the variables that an inventory sets for a host, and the file that each is in."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible.vars.plugins import get_vars_from_inventory_sources

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # a later ansible-core may keep it elsewhere; messages then name the inventory only
    Origin = None

COLLECTION = Path(__file__).resolve().parents[3]


def variables(hostvars: t.Any, host_name: str, loader: t.Any) -> dict[str, str]:
    """The place of each variable that the inventory sets for this host, by name; the highest precedence wins.

    hostvars: Ansible's variable of that name, which knows the inventory. Nothing is parsed again: Ansible has read the
    inventory and its group_vars and host_vars before, and caches them.
    """
    return {name: place for layer in _layers(hostvars, host_name, loader) for name, place in _places(layer)}


def _layers(hostvars: t.Any, host_name: str, loader: t.Any) -> Iterator[Mapping[str, t.Any]]:
    inventory = hostvars._inventory
    host = inventory.get_host(host_name)
    sources = [source for source in inventory._sources if source and not _beside_group_vars_of_the_project(source)]
    groups = sorted(host.get_groups(), key=lambda group: (group.depth, group.priority, group.name))
    for entity in (*groups, host):
        yield entity.vars
        yield get_vars_from_inventory_sources(loader, sources, [entity], "task")


def _beside_group_vars_of_the_project(source: str) -> bool:
    """Whether Ansible takes the playbooks' group_vars for this inventory's, as in the root of a checkout."""
    path = Path(source)
    directory = path if path.is_dir() else path.parent
    return (directory / "group_vars").resolve() == COLLECTION / "playbooks/group_vars"


def _places(layer: Mapping[str, t.Any]) -> Iterator[tuple[str, str]]:
    for name, value in layer.items():
        yield str(name), place(name, value)


def place(*values: t.Any, otherwise: str = "the inventory") -> str:
    """The file and line that one of the values comes from, relative to the present directory where it is below."""
    for value in values:
        origin = Origin.get_tag(value) if Origin else None
        if origin and origin.path:
            path = Path(origin.path)
            if path.is_relative_to(Path.cwd()):
                path = path.relative_to(Path.cwd())
            return f"{path}:{origin.line_num}" if origin.line_num else str(path)
    return otherwise
