# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: digests, samples of directories, and consistent copies of SQLite databases."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import typing as t
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from openmates_backup.problem import Problem

ALL_UP_TO = 50  # files of a directory that are all sampled
NEWEST = 10  # those that are sampled in any case
CHUNK = 1 << 20


def sha256(path: Path, limit: int | None = None) -> str:
    """The SHA-256 of a file, or of its first bytes. Raises OSError."""
    digest, left = hashlib.sha256(), limit
    with path.open("rb") as file:
        while block := file.read(CHUNK if left is None else min(CHUNK, left)):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest.hexdigest()


def described(path: Path) -> dict[str, t.Any]:
    """A finished file as the manifest has it."""
    return {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def regular(folder: Path, exclude: Collection[Path] = ()) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files below a directory, without those that disappear meanwhile. Raises OSError for the directory."""
    os.scandir(folder).close()
    for found, folders, names in os.walk(folder):
        here = Path(found)
        folders[:] = sorted(name for name in folders if here / name not in exclude)
        for name in sorted(names):
            path = here / name
            with contextlib.suppress(FileNotFoundError):
                if path not in exclude and not path.is_symlink() and path.is_file():
                    yield path, path.stat()


def summary(folder: Path, exclude: Collection[Path] = ()) -> dict[str, t.Any]:
    """How many files there are below a directory, their size, and digests of a sample. Raises OSError.

    A file of the sample counts with the size that it has now: a log may be longer once restic reads it.
    """
    found = {str(path.relative_to(folder)): status for path, status in regular(folder, exclude)}
    sample = []
    for name in chosen(found):
        with contextlib.suppress(FileNotFoundError):
            size = found[name].st_size
            sample.append({"path": name, "bytes": size, "sha256": sha256(folder / name, size)})
    return {
        "path": str(folder),
        "files": len(found),
        "bytes": sum(status.st_size for status in found.values()),
        "sample": sample,
    }


def chosen(found: dict[str, os.stat_result]) -> list[str]:
    """The names to sample: the same ones each time, as far as they are there, and the newest."""
    if len(found) <= ALL_UP_TO:
        return sorted(found)
    steady = sorted(found, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
    newest = sorted(found, key=lambda name: found[name].st_mtime, reverse=True)
    return sorted({*steady[:ALL_UP_TO], *newest[:NEWEST]})


def size(folder: Path) -> int:
    """The bytes of a directory's files; 0 if it is not there."""
    try:
        return sum(status.st_size for _, status in regular(folder))
    except OSError:
        return 0


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of a database that a service may be writing to. Raises Problem."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=60)) as live,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
            [(verdict,)] = copy.execute("pragma quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise Problem(f"The database {source} cannot be copied: {error}.") from None
    if verdict != "ok":
        raise Problem(f"The database {source} is damaged: {verdict}. Its service shows the reason in its log.")


def difference(file: Path, sample: Mapping[str, t.Any]) -> str:
    """How a file differs from its sample; empty if it does not. A log may have grown since."""
    if not file.is_file():
        return "is missing"
    if file.stat().st_size < sample["bytes"]:
        return "is cut short"
    return "" if sha256(file, sample["bytes"]) == sample["sha256"] else "has other content"


def changed_since(path: Path, moment: float) -> bool:
    """Whether a file, or the directory that lost it, was changed at that time or later."""
    while not path.exists():
        path = path.parent
    return path.stat().st_mtime >= moment
