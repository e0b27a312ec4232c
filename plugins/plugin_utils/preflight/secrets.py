# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets: defined, strong, and different from each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import SECRETS, Preflight

# Anchored where a random value could contain the same characters by chance.
PLACEHOLDER = re.compile(
    r"^<.*>$|^x{3,}|^[.*?_-]+$|^(todo|tbd|fixme|123456|abcdef|qwert|letmein)"
    r"|^(none|null|secret|password|test|admin|default)[!?.0-9]*$"
    r"|change[-_ ]?(me|it|this)|replace[-_ ]?(me|this|with)|place[-_ ]?holder|example|insert[-_ ]|fill[-_ ]?(me|in)"
    r"|your[-_. ]?(own|domain|server|secret|password|token|key|e?mail|name)",
    re.IGNORECASE,
)
MORE_PASSWORDS = (
    *("openmates_directus_mail_password", "openmates_directus_storage_secret", "openmates_backup_s3_secret"),
    *("openmates_alerts_mail_password", "openmates_alerts_ntfy_token"),
)
OF_BACKUPS = "openmates_backup_password"
INVITE_CODE = "openmates_first_invite_code"
# OpenMates' web app accepts no other form.
INVITE_CODE_FORM = re.compile(r"[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}")


def _needed(run: Preflight) -> list[str]:
    """Only OpenMates' own cms-setup stores an invite code, and a server may have no backups."""
    unused = set() if run.get("openmates_cms_setup_image", True) else {INVITE_CODE}
    unused |= set() if run.get("openmates_backup_repository") else {OF_BACKUPS}
    return [name for name in SECRETS if name not in unused]


def check_encryption(run: Preflight) -> Iterator[str]:
    """Every secret of the inventory is encrypted, unless the operator has said that something else does it."""
    if run.get("openmates_plaintext_secrets"):
        return
    for file, names in (run.get("openmates_secrets_in_plaintext") or {}).items():
        own = run.files.get("secrets", "secrets.yml")
        only_secrets = file == own or "secret" in Path(file).name
        quoted = shlex.quote(file if only_secrets else own)
        yield (
            f"{', '.join(names)} in {file}: in plaintext, for every reader of this directory and of its repository. "
            + (f"Run `ansible-vault encrypt {quoted}`" if only_secrets else f"Move it: `ansible-vault edit {quoted}`")
            + ", or set openmates_plaintext_secrets: true if another tool encrypts the file"
        )


def check_secrets(run: Preflight) -> Iterator[str]:
    needed = _needed(run)
    missing = [name for name in needed if not str(run.get(name, "")).strip() and name not in run.broken]
    make = run.files.get("make_secrets", "ansible-playbook openmates.server.secrets")
    if len(missing) == len(needed):
        yield run.problem(
            ", ".join(missing),
            "none of the secrets is set, the file is missing or empty",
            f"`{make}` makes it, encrypted",
        )
        return
    for name in needed:
        value, shortest = run.get(name, ""), SECRETS[name]
        if name in run.broken:
            continue
        if name in missing:
            yield run.problem(
                name,
                "it is not set",
                f"`{make}` adds it, or `ansible-vault edit {run.file(name)}` your own value",
            )
            continue
        if name == INVITE_CODE and not INVITE_CODE_FORM.fullmatch(value):
            yield run.problem(
                name,
                "it is not of the form XXXX-XXXX-XXXX, of capital letters and digits, the only form that the web app"
                " accepts",
                f"Remove it: `{make}` then creates another one",
            )
        elif PLACEHOLDER.search(value):
            yield run.problem(
                name, "it is still a placeholder", "Give it a random value, e.g. from `openssl rand -hex 32`"
            )
        elif len(value) < shortest:
            yield run.problem(
                name,
                f"it has {len(value)} characters, fewer than {shortest}",
                "Give it a longer random value, e.g. from `openssl rand -hex 32`",
            )
        elif len(set(value)) < 5:
            yield run.problem(
                name, "it repeats the same few characters", "Give it a random value, e.g. from `openssl rand -hex 32`"
            )
        yield from _check_printable(run, name, value)


def check_more_passwords(run: Preflight) -> Iterator[str]:
    """Passwords that other servers know, which may be short."""
    for name in MORE_PASSWORDS:
        if value := run.get(name, ""):
            yield from _check_printable(run, name, value)


def _check_printable(run: Preflight, name: str, value: str) -> Iterator[str]:
    if value != value.strip() or not value.isprintable():
        yield run.problem(
            name,
            "it contains a line break, an invisible character or a space at an end, which files and flags cannot hold",
            "Use printable characters only, and `|-` or quotation marks in YAML",
        )


def check_secrets_differ(run: Preflight) -> Iterator[str]:
    users: dict[str, list[str]] = {}
    for name in SECRETS:
        if value := run.get(name, "").strip():
            users.setdefault(value, []).append(name)
    for names in users.values():
        if len(names) > 1:
            yield run.problem(
                " and ".join(names),
                "they have the same value",
                "Give each a different value, so that a leak exposes only one",
            )


def check_cache_password(run: Preflight) -> Iterator[str]:
    name = "openmates_cache_password"
    if "/" in run.get(name, ""):
        yield run.problem(
            name,
            "it contains a slash, which OpenMates' workers parse as the end of the cache's address",
            "Use letters and digits, e.g. a value from `openssl rand -hex 32`",
        )


CHECKS = (check_secrets, check_encryption, check_more_passwords, check_secrets_differ, check_cache_password)
