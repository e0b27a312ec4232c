# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""References of images."""

from __future__ import annotations


def at_registry(reference: str, registry: str | None = "") -> str:
    """The same image at another registry: same path, tag and digest. No registry leaves the reference as it is."""
    target = (registry or "").strip().rstrip("/")
    if not target or reference.startswith(f"{target}/"):
        return reference
    if "://" in target:
        raise ValueError(f"openmates_registry: {registry!r} must be a host name without https://")
    first, slash, rest = reference.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    path = rest if has_host else reference
    # References to Docker Hub's own images leave out their namespace.
    if "/" not in path and (not has_host or first in ("docker.io", "index.docker.io")):
        path = f"library/{path}"
    return f"{target}/{path}"
