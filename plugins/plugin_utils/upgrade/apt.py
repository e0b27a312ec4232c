# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the output of apt-get, as it is with LC_ALL=C."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Collection

_INSTALL = re.compile(r"^Inst (?P<name>\S+)(?: \[(?P<old>[^\]]+)\])? \((?P<new>\S+)", re.MULTILINE)
#: A heading, and the indented lines of names below it.
_KEPT_BACK = re.compile(r"^The following packages have been kept back[^\n]*:\n((?:  [^\n]*\n)+)", re.MULTILINE)
_URI = re.compile(r"^'[^']*' (?P<file>\S+) (?P<bytes>[0-9]+) ", re.MULTILINE)


class Plan(t.TypedDict):
    """What an upgrade changes."""

    packages: list[dict[str, str]]
    docker: list[str]
    kept_back: list[str]


def plan(simulation: str, docker: Collection[str] = (), held: Collection[str] = ()) -> Plan:
    """What `apt-get --simulate --ignore-hold upgrade` would do, without the held packages that are not Docker's.

    docker: how the names of Docker's packages begin. held: the packages that dpkg holds.
    """
    packages, ours, kept_back = [], [], []
    for match in _INSTALL.finditer(simulation):
        name = match["name"].partition(":")[0]
        if is_docker(name, docker):
            ours.append(name)
        elif name in held:
            kept_back.append(name)
            continue
        packages.append({"name": name, "old": match["old"] or "", "new": match["new"]})
    for block in _KEPT_BACK.findall(simulation):
        kept_back += [name.partition(":")[0] for name in block.split()]
    by_name = sorted(packages, key=lambda package: package["name"])
    return {"packages": by_name, "docker": sorted(ours), "kept_back": sorted(set(kept_back))}


def is_docker(name: str, docker: Collection[str]) -> bool:
    return any(re.match(pattern, name) for pattern in docker)


def download_bytes(uris: str) -> int:
    """The sum of the sizes in the output of `apt-get --print-uris`: what is not downloaded yet."""
    return sum(int(match["bytes"]) for match in _URI.finditer(uris))
