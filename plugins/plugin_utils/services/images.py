# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""References of images."""

from __future__ import annotations

from collections.abc import Iterable

#: Where images come from whose reference names no registry, and what references call it.
DOCKER_HUB = "registry-1.docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io")


def at_registry(reference: str, registry: str | None = "") -> str:
    """The same image at another registry: same path, tag and digest. No registry leaves the reference as it is."""
    target = (registry or "").strip().rstrip("/")
    if not target or reference.startswith(f"{target}/"):
        return reference
    if "://" in target:
        raise ValueError(f"openmates_registry: {registry!r} must be a host name without https://")
    first, _, rest = reference.partition("/")
    has_host = _names_registry(reference)
    path = rest if has_host else reference
    # References to Docker Hub's own images leave out their namespace.
    if "/" not in path and (not has_host or first in _HUB_NAMES):
        path = f"library/{path}"
    return f"{target}/{path}"


def _names_registry(reference: str) -> bool:
    """Whether the first part of a reference is a registry, and not a part of the path."""
    first, slash, _ = reference.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def registry_hosts(references: Iterable[str], registry: str | None = "") -> list[str]:
    """The names of the hosts that images are pulled from: those of the references, or the one registry for all."""
    if target := (registry or "").strip():
        return [target.partition("/")[0].partition(":")[0]]
    firsts = {reference.partition("/")[0] if _names_registry(reference) else DOCKER_HUB for reference in references}
    return sorted({DOCKER_HUB if first in _HUB_NAMES else first.partition(":")[0] for first in firsts})
