# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login users, keys and networks of the server."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

# Key types that sshd is configured to accept. An RSA key of 3072 bits has 407 bytes.
KEY_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa")
RSA_BYTES = 400
PROXIES = "openmates_trusted_proxies"
SSH_SOURCES, EXEMPT = "openmates_ssh_sources", "openmates_maintenance_exempt"
NETWORKS = (SSH_SOURCES, "openmates_ssh_penalty_exempt", EXEMPT, PROXIES)


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
        elif not _is_public_key(text) or not str(key).rstrip("\n").isprintable():
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
    return kind in KEY_TYPES and data[4 : 4 + len(kind)] == kind.encode()


def check_networks(run: Preflight) -> Iterator[str]:
    for name in NETWORKS:
        if name == EXEMPT and run.get(name, []) == run.get(SSH_SOURCES, []):
            continue  # its default, which has been checked
        for source in run.get(name, []):
            try:
                network = ipaddress.ip_network(str(source))
            except ValueError as error:
                yield run.problem(
                    name,
                    f"{source!r} is not a range of addresses ({error})",
                    "Write it as 203.0.113.0/24 or 2001:db8::/32",
                )
                continue
            if "%" in source:
                yield run.problem(name, f"{source!r} names an interface", "Leave out the % and what follows it")
            elif name == PROXIES and network.prefixlen == 0:
                yield run.problem(
                    name,
                    f"with {source} any client could claim any address",
                    "Name the networks of your load balancer, or those that Cloudflare publishes",
                )


def check_ssh_options(run: Preflight) -> Iterator[str]:
    name = "openmates_ssh_options"
    for option, value in run.get(name, {}).items():
        if not re.fullmatch(r"[A-Za-z]+", str(option)):
            yield run.problem(name, f"{option!r} is not an option of sshd", "Write it as {MaxAuthTries: 6}")
        elif isinstance(value, (dict, list)) or value is None:
            yield run.problem(name, f"{option} is not text, a number, true or false", "Write its value as one text")
        elif not str(value).strip() or str(value) != str(value).strip() or not str(value).isprintable():
            yield run.problem(
                name,
                f"the value of {option} is not one line of text",
                "Write it as in sshd_config, without line breaks, invisible characters and blanks at its ends",
            )


CHECKS = (check_ssh_user, check_ssh_keys, check_networks, check_ssh_options)
