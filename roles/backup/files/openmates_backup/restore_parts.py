# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a snapshot that can be restored one by one, as its manifest describes them."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Collection, Iterator, Mapping

from openmates_backup.config import Config
from openmates_backup.problem import Problem

DATABASE, VAULT, CACHE, FILES = "database", "vault", "cache", "files"
#: Services that use the databases, Vault and the cache: the backend's, and those of the operator's Apps.
STORES = ("cms-database", "cache", "vault")
MONITORING = ("prometheus", "loki", "promtail", "cadvisor", "grafana")
Manifest = Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """`about`: its section of the manifest. `copies`: the files that were made for the backup, with their digests."""

    name: str
    kind: str
    about: Mapping[str, t.Any]
    copies: tuple[Mapping[str, t.Any], ...] = ()

    @property
    def time(self) -> str:
        return self.about["time"]

    @property
    def bytes(self) -> int:
        copied = sum(copy["bytes"] for copy in self.copies)
        return copied + (self.about["bytes"] if self.kind == FILES else 0)


def parts_of(manifest: Manifest, config: Config) -> dict[str, Part]:
    """The parts that this server has a place for, by name, in the order in which they are restored."""
    return {part.name: part for part in _parts(manifest) if part.kind != FILES or part.name in config.volumes}


def _parts(manifest: Manifest) -> Iterator[Part]:
    if vault := manifest.get("vault"):
        yield Part(VAULT, VAULT, vault, (vault,))
    for service, about in manifest["databases"].items():
        yield Part(service, DATABASE, about, (about["globals"], *about["databases"].values()))
    for service, about in manifest["caches"].items():
        yield Part(service, CACHE, about, (about,))
    for name, about in manifest["volumes"].items():
        if about["rule"] == "files":
            yield Part(name, FILES, about, tuple(about["sqlite"].values()))


def chosen(found: Mapping[str, Part], only: Collection[str]) -> dict[str, Part]:
    """The parts with these names, or all. Raises Problem for a name that is none."""
    unknown = [name for name in only if name not in found]
    if unknown:
        raise Problem(f"`only` names no part of this snapshot: {', '.join(unknown)}. Its parts are {', '.join(found)}.")
    return {name: part for name, part in found.items() if not only or name in only}


def users(parts: Collection[Part], project: str, running: Mapping[str, Collection[str]]) -> list[str]:
    """The running services that must not run while these parts are replaced.

    running: the names of the volumes that each of them has mounted.
    """
    stores = any(part.kind != FILES for part in parts)
    volumes = {f"{project}-{part.name}" for part in parts if part.kind == FILES}
    return sorted(
        service
        for service, mounted in running.items()
        if service not in STORES and ((stores and service not in MONITORING) or volumes & set(mounted))
    )
