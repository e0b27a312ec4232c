# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the variables that an inventory sets for a host, and the file that each is in."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ansible.parsing.vault import EncryptedString, is_encrypted
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.openmates.server.plugins.plugin_utils.commands import shown

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # a later ansible-core may keep it elsewhere; messages then name the inventory only
    Origin = None

#: The name of a field that holds a secret, of those that are in a mapping with others.
SECRET_FIELD = re.compile(r"key|secret|token|passw|passphrase|credential|private|hook", re.IGNORECASE)
COLLECTION = Path(__file__).resolve().parents[3]


def variables(hostvars: t.Any, host_name: str, loader: t.Any) -> dict[str, list[tuple[t.Any, str]]]:
    """The values that the inventory gives each variable of this host, by name, each with its place.

    The last has the highest precedence.
    hostvars: Ansible's variable of that name, which knows the inventory. Nothing is parsed again: Ansible has read the
    inventory and its group_vars and host_vars before, and caches them.
    """
    found: dict[str, list[tuple[t.Any, str]]] = {}
    for layer in _layers(hostvars, host_name, loader):
        for name, value in layer.items():
            found.setdefault(str(name), []).append((value, place(name, value)))
    return found


def in_plaintext(found: Mapping[str, list[tuple[t.Any, str]]], secrets: Collection[str]) -> dict[str, list[str]]:
    """The secrets that an inventory has in plaintext, by file.

    found: what ``variables`` returns. A value that is encrypted by itself, or that a template takes from elsewhere, is
    not in plaintext. Of a mapping only the fields whose name says that they are secret count: not its URLs.
    """
    files: dict[str, list[str]] = {}
    for name in secrets:
        for value, where in found.get(name, []):
            file = Path(re.sub(r":\d+$", "", where))
            if _has_text(value) and file.is_file() and not _is_encrypted(file):
                files.setdefault(str(file), []).append(name)
    return {file: list(dict.fromkeys(names)) for file, names in files.items()}


def _has_text(value: t.Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            _has_text(content)
            for name, content in value.items()
            if isinstance(content, Mapping) or SECRET_FIELD.search(str(name))
        )
    return isinstance(value, str) and not isinstance(value, EncryptedString) and value != "" and "{{" not in value


def _is_encrypted(file: Path) -> bool:
    """Whether ansible-vault encrypted the file as a whole."""
    with file.open("rb") as stream:
        return is_encrypted(stream.read(64))


def misnamed(hostvars: t.Any, host_name: str) -> str:
    """What is wrong with the inventory that was named for this host, or an empty string.

    Ansible finds the hosts of inventories that are inside the directory that was named, but not their group_vars.
    """
    inventory = hostvars._inventory
    folders = [Path(source) for source in inventory._sources if source and Path(source).is_dir()]
    found = Path(inventory.get_host(host_name).vars.get("inventory_dir") or ".").resolve()
    for folder in folders:
        if (folder / "ansible.cfg").exists():
            return (
                f"{shown(folder)} is no inventory, but the root of a project: Ansible reads each file in it as an "
                "inventory. Name the inventory itself: -i prod, or -i hosts.yml."
            )
        if folder.resolve() in found.parents and found not in [other.resolve() for other in folders]:
            return (
                f"{host_name} is in {shown(found)}, whose group_vars Ansible does not read with -i {shown(folder)}. "
                f"Name that inventory: -i {shown(found)}."
            )
    return ""


def _layers(hostvars: t.Any, host_name: str, loader: t.Any) -> Iterator[Mapping[str, t.Any]]:
    """In Ansible's order: what the inventory's own files say of groups, then group_vars; the same of the host."""
    inventory = hostvars._inventory
    host = inventory.get_host(host_name)
    sources = [source for source in inventory._sources if source and not _beside_group_vars_of_the_project(source)]
    groups = sorted(host.get_groups(), key=lambda group: (group.depth, group.priority, group.name))
    for entities, folder in ((groups, "group_vars"), ([host], "host_vars")):
        yield from (entity.vars for entity in entities)
        for entity in entities:
            for source in sources:
                # Each file by itself too, since Ansible's plugin returns the last file's value only.
                for file in _files(Path(source), folder, entity.name, loader):
                    yield loader.load_from_file(file, unsafe=True, trusted_as_template=True) or {}
                yield get_vars_from_inventory_sources(loader, [source], [entity], "task")


def _files(source: Path, folder: str, name: str, loader: t.Any) -> list[str]:
    """The files of a group or host beside an inventory, as Ansible's own plugin finds and caches them."""
    directory = source if source.is_dir() else source.parent
    return loader.find_vars_files(str(directory.resolve() / folder), name) if source.exists() else []


def _beside_group_vars_of_the_project(source: str) -> bool:
    """Whether Ansible takes the playbooks' group_vars for this inventory's, as in the root of a checkout."""
    path = Path(source)
    directory = path if path.is_dir() else path.parent
    return (directory / "group_vars").resolve() == COLLECTION / "playbooks/group_vars"


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
