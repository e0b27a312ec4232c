# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the modules that write files: read a file's state, change it, and show the difference."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically


def own() -> tuple[int, int]:
    """The user and group that the module runs as."""
    return os.geteuid(), os.getegid()


def relative(path: str, option: str) -> Path:
    """Check that a path is below dest. Raises ValueError, with the option's name, if it is not."""
    result = Path(path)
    if result.is_absolute() or ".." in result.parts or not result.parts:
        raise ValueError(f"{option}: path {path!r} is not below dest. Use a relative path without '..'.")
    return result


def text(path: Path) -> str | None:
    """The file's text, or None where there is no regular file. Bytes that are not UTF-8 are kept as surrogates."""
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_bytes().decode("utf-8", "surrogateescape")


def attributes(path: Path) -> tuple[int, int, int]:
    """Mode, user and group. Raises OSError."""
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def permit(path: Path, mode: int, owner: tuple[int, int]) -> None:
    """Set the attributes of an existing file. Raises OSError."""
    os.chown(path, *owner)
    path.chmod(mode)


def write(path: Path, content: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a text, as `text` returns it, atomically, and create its directory. `owner`: default is `own`."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, content.encode("utf-8", "surrogateescape"), mode, *(owner or own()))


def difference(header: str, before: str | None, after: str, after_header: str = "") -> dict[str, str]:
    """One entry of a result's diff. `after_header`: if it differs."""
    headers = {"before_header": header, "after_header": after_header or header}
    return {**headers, "before": before or "", "after": after}


class Changes:
    """One run: makes the changes, or with `dry` only records them."""

    def __init__(self, dry: bool, with_diff: bool) -> None:
        self.dry, self.with_diff = dry, with_diff
        self.written: list[str] = []
        self.diff: list[dict[str, str]] = []

    def put(self, name: str, path: Path, content: str, mode: int, owner: tuple[int, int], before: str | None) -> None:
        """Write a file that differs; `name` is its name in the result. `before`: its previous text."""
        self.written.append(name)
        self.note(name, before, content)
        if not self.dry:
            write(path, content, mode, owner)

    def note(self, header: str, before: str | None, after: str, after_header: str = "") -> None:
        if self.with_diff:
            self.diff.append(difference(header, before, after, after_header))
