# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each image is pinned to a version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import field

REFERENCE = re.compile(r"[a-z0-9][a-z0-9._:/-]*(@sha256:[0-9a-f]{64})?", re.IGNORECASE | re.ASCII)
REGISTRY = re.compile(r"([a-z0-9-]+\.)*[a-z0-9-]+(:\d{1,5})?", re.IGNORECASE)
VERSION = re.compile(r"^v?(\d+(?:\.\d+)*)(?:-[a-z][a-z0-9.]*)?$", re.IGNORECASE)
MOVING = ("latest", "stable", "edge", "nightly", "main", "master", "lts", "alpine")
#: Images whose versions have two numbers; all others have three.
TWO_NUMBERS = ("postgres",)
#: Settings that give several services their image.
VAULT_IMAGES = "openmates_vault_images"
SHARED = ("openmates_backend_image", "openmates_directus_image", "openmates_cms_setup_image")


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


def check_image(run: Preflight, name: str, reference: str, what: str = "") -> Iterator[str]:
    """Whether a setting holds an image, and in production one that stays the same. ``what``: the part that it is of."""
    if not REFERENCE.fullmatch(reference):
        yield run.problem(
            name,
            f"{what}{reference!r} is not an image",
            "Write it as registry/path:tag, with @sha256: and 64 digits behind it if you know its digest",
        )
    elif run.environment == "prod" and moves(reference):  # a developer's own image may have any tag
        yield run.problem(
            name,
            f"{what}{reference} is a tag that its publisher moves to other versions",
            "Give it a tag with the full version, or a digest",
        )


def check_images(run: Preflight) -> Iterator[str]:
    images = {run.get(name): name for name in SHARED if run.get(name)}
    of_vault = list(run.get(VAULT_IMAGES, {}).values())
    for service, fields in run.services.items():
        if "image" in fields:  # otherwise it could not be evaluated
            setting = VAULT_IMAGES if fields["image"] in of_vault else field(service, "image")
            images.setdefault(fields["image"], setting)
    for reference, name in images.items():
        yield from check_image(run, name, reference)


def check_registry_logins(run: Preflight) -> Iterator[str]:
    name = "openmates_registry_logins"
    for registry, login in (run.get(name) or {}).items():
        if not REGISTRY.fullmatch(str(registry)):
            yield run.problem(
                name,
                f"{registry!r} is not a registry",
                "Write its host name, with :port if it has one, without https:// and without a path",
            )
        elif not isinstance(login, dict) or set(login) != {"username", "password"}:
            yield run.problem(
                name, f"the login of {registry} is not a username and a password", "Give it these two fields"
            )
        elif not all(isinstance(value, str) and value.strip() for value in login.values()):
            yield run.problem(
                name, f"a field of the login of {registry} is empty or not a text", "Write it in quotation marks"
            )
        elif ":" in login["username"]:
            yield run.problem(
                name, f"the username for {registry} contains a colon, which ends it", "Correct the username"
            )


CHECKS = (check_images, check_registry_logins)
