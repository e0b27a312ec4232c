# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each image is pinned to a version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import field

REFERENCE = re.compile(r"^[a-z0-9][a-z0-9._:/-]*(@sha256:[0-9a-f]{64})?$", re.IGNORECASE)
VERSION = re.compile(r"^v?(\d+(?:\.\d+)*)(?:-[a-z][a-z0-9.]*)?$", re.IGNORECASE)
MOVING = ("latest", "stable", "edge", "nightly", "main", "master", "lts", "alpine")
#: Images whose versions have two numbers; all others have three.
TWO_NUMBERS = ("postgres",)


def moves(reference: str) -> bool:
    """Whether an image's reference is a moving tag."""
    name, at, _digest = reference.partition("@")
    if at:
        return False
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # no tag, or the colon of a registry's port
        return True
    version = VERSION.match(tag)
    if not version:
        return tag.lower() in MOVING
    return len(version[1].split(".")) < (2 if path.rpartition("/")[2] in TWO_NUMBERS else 3)


def check_images(run: Preflight) -> Iterator[str]:
    for service, fields in run.services.items():
        name, reference = field(service, "image"), fields.get("image")
        if reference is None:
            continue  # it could not be evaluated
        if not REFERENCE.match(reference):
            yield run.problem(
                name,
                f"{reference!r} is not an image",
                "Write it as registry/path:tag, with @sha256: and 64 digits behind it if you know its digest",
            )
        elif run.environment == "prod" and moves(reference):  # a developer's own image may have any tag
            yield run.problem(
                name,
                f"{reference} is a tag that its publisher moves to other versions",
                "Give it a tag with the full version, or a digest",
            )


CHECKS = (check_images,)
