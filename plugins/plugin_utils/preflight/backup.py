# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups: where they go to, what opens it, and how many are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.docker import root_of
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer

REPOSITORY = "openmates_backup_repository"
STATE = "/var/lib/openmates"
#: The kinds of repositories, each with its form and an example.
KINDS = {
    "a path": (r"(/[A-Za-z0-9._-]+)+", "/mnt/backups/openmates"),
    "sftp": (
        r"sftp:([\w.-]+@)?[A-Za-z0-9.-]+:/?[\w./-]+|sftp://([\w.-]+@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/[\w./-]+",
        "sftp:backup@backup.example.com:/srv/openmates",
    ),
    "s3": (r"s3:(https?://)?[A-Za-z0-9.-]+(:\d{1,5})?/[\w./-]+", "s3:https://s3.example.com/bucket"),
}
#: What a repository of a kind needs besides the password.
NEEDED = {
    "sftp": ("openmates_backup_sftp_key", "openmates_backup_sftp_known_hosts"),
    "s3": ("openmates_backup_s3_key_id", "openmates_backup_s3_secret"),
}
KEPT = ("openmates_backup_keep_daily", "openmates_backup_keep_weekly", "openmates_backup_keep_monthly")
SSH_KEY, KNOWN_HOSTS = NEEDED["sftp"]
DELETED_AT_BOOT = ("/tmp", "/run", "/dev", "/proc", "/sys")  # noqa: S108 - refused


def kind_of(repository: str) -> str:
    """The kind of a repository, empty if it is none of those."""
    return next((kind for kind, (form, _) in KINDS.items() if re.fullmatch(form, repository, re.ASCII)), "")


def check_repository(run: Preflight) -> Iterator[str]:
    repository = run.get(REPOSITORY, "")
    if not repository:
        return
    kind = kind_of(repository)
    if not kind:
        examples = ", ".join(example for _, example in KINDS.values())
        yield run.problem(REPOSITORY, f"{repository!r} is not a repository", f"Use one like {examples}")
    elif kind == "a path":
        yield from _check_path(run, repository)
    for name in NEEDED.get(kind, ()):
        if not run.get(name) and name not in run.broken:
            yield run.problem(name, f"it is empty, and {REPOSITORY} is {kind}: it needs one", "Set it (docs/backup.md)")


def _check_path(run: Preflight, repository: str) -> Iterator[str]:
    path = PurePosixPath(repository)
    if ".." in path.parts:
        yield run.problem(REPOSITORY, f"{repository} has '..' in it", "Write the path without")
        return
    inside = {
        root_of(run): "which holds what is backed up",
        str(run.get("openmates_directory", "")): "which is backed up itself",
        STATE: "which is backed up itself",
        **dict.fromkeys(DELETED_AT_BOOT, "which is empty after a reboot"),
    }
    for folder, why in inside.items():
        if folder and path.is_relative_to(folder):
            yield run.problem(
                REPOSITORY,
                f"{repository} is in {folder}, {why}",
                "Use a directory on another disk, or another server: a backup on the same disk is lost with it",
            )


def check_ssh_key(run: Preflight) -> Iterator[str]:
    key = str(run.get(SSH_KEY, "")).strip()
    if key and not re.match(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", key):
        yield run.problem(
            SSH_KEY,
            "it is not a private SSH key",
            "Put all lines of the file in, with `|` in YAML: `ssh-keygen -t ed25519 -N '' -f FILE` makes one",
        )
    elif "Proc-Type: 4,ENCRYPTED" in key or "BEGIN ENCRYPTED" in key:
        yield run.problem(SSH_KEY, "it has a passphrase, which no one enters at night", "Make one without")
    for line in run.get(KNOWN_HOSTS, []):
        if not re.match(r"(@\S+ )?\S+ (ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/]+=*", str(line)):
            yield run.problem(
                KNOWN_HOSTS, f"{str(line)[:60]!r} is not a line of known_hosts", "`ssh-keyscan HOST` prints such lines"
            )


def check_kept(run: Preflight) -> Iterator[str]:
    counts = [integer(run.get(name, 0)) for name in KEPT]
    if run.get(REPOSITORY) and all(name in run.settings for name in KEPT) and not any(counts):
        yield run.problem(", ".join(KEPT), "all are 0, so no backup would be kept", "Set at least one")


CHECKS = (check_repository, check_ssh_key, check_kept)
