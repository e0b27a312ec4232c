# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests that reveal a change but not the content: keyed with a random value that only this host has."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils import files
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically

KEY_BYTES = 32
KEY_MODE = 0o400


def host_key(path: Path, dry: bool) -> tuple[bytes, bool]:
    """Return the key at `path`, and whether it had to be made or its permissions repaired.

    The key is made once: a later call, or one at the same time, returns the same. With `dry` nothing is written, so a
    key that is missing is another one at each call. Raises OSError, and ValueError if the file is not a key.
    """
    with contextlib.suppress(FileNotFoundError):
        return _existing(path, dry)
    key = secrets.token_bytes(KEY_BYTES)
    if dry:
        return key, True
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_atomically(fresh, key, KEY_MODE)
    try:
        os.link(fresh, path)  # unlike a rename, it does not replace the key of a run that was faster
    except FileExistsError:
        return _existing(path, dry)
    finally:
        fresh.unlink()
    sync_folder(path.parent)
    return key, True


def _existing(path: Path, dry: bool) -> tuple[bytes, bool]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} is not a key of {KEY_BYTES} bytes. Remove it and run again, which makes another one.")
    exposed = files.attributes(path) != (KEY_MODE, *files.own())
    if exposed and not dry:
        files.permit(path, KEY_MODE, files.own())
    return key, exposed


def by_directory(contents: Mapping[str, str], key: bytes) -> dict[str, str]:
    """Map each first directory of the paths in `contents` to the HMAC-SHA-256 of its name and its files.

    The name takes part so that two directories with the same files do not show that they have the same.
    """
    directories: dict[str, dict[str, str]] = {}
    for path, text in contents.items():
        directory, separator, name = path.partition("/")
        if separator:
            directories.setdefault(directory, {})[name] = text
    return {
        directory: hmac.new(key, json.dumps([directory, held], sort_keys=True).encode(), hashlib.sha256).hexdigest()
        for directory, held in directories.items()
    }


def of_text(text: str, key: bytes) -> str:
    """The HMAC-SHA-256 of a text."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
