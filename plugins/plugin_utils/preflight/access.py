# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login users, keys and networks of the server."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

# Key types that sshd is configured to accept. An RSA key of 3072 bits has 407 bytes.
KEY_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa")
RSA_BYTES = 400


def check_ssh_user(run: Preflight) -> Iterator[str]:
    if run.get("openmates_ssh_user") == "root":
        yield run.problem(
            "openmates_ssh_user", "root cannot log in on a hardened server", "Set another user; site.yml creates it"
        )


def check_ssh_keys(run: Preflight) -> Iterator[str]:
    name, keys = "openmates_ssh_keys", run.get("openmates_ssh_keys", [])
    remedy = "Write the content of your public key file, e.g. ~/.ssh/id_ed25519.pub"
    for number, key in enumerate(keys, start=1):
        text = str(key).strip()
        if "PRIVATE KEY" in text:
            yield run.problem(name, f"key {number} is a private key", f"Keep private keys secret. {remedy}")
        elif not _is_public_key(text):
            yield run.problem(
                name, f"key {number} is not a public key that sshd accepts (ed25519, RSA of 3072 bits)", remedy
            )


def _is_public_key(text: str) -> bool:
    """Whether a line is one key as in an authorized_keys file, without options."""
    kind, _, rest = text.partition(" ")
    blob = rest.strip().partition(" ")[0]
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return False
    if kind == "ssh-rsa" and len(data) < RSA_BYTES:
        return False
    return kind in KEY_TYPES and data[4 : 4 + len(kind)] == kind.encode() and "\n" not in text


def check_networks(run: Preflight) -> Iterator[str]:
    for name in ("openmates_ssh_sources", "openmates_maintenance_exempt"):
        if name != "openmates_ssh_sources" and run.get(name, []) == run.get("openmates_ssh_sources", []):
            continue  # its default, which has been checked
        for source in run.get(name, []):
            try:
                ipaddress.ip_network(str(source))
            except ValueError as error:
                what = f"{source!r} is not a range of addresses ({error})"
                yield run.problem(name, what, "Write it as 203.0.113.0/24 or 2001:db8::/32")


CHECKS = (check_ssh_user, check_ssh_keys, check_networks)
