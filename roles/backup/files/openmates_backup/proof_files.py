# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of files: what was restored is what the manifest says."""

from __future__ import annotations

import calendar
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from openmates_backup import files
from openmates_backup.parts import FILES
from openmates_backup.problem import Problem

SHOWN = 5


def described(manifest: Mapping[str, t.Any]) -> Iterator[Mapping[str, t.Any]]:
    """The finished files of the manifest: dumps, snapshots and copies of databases."""
    for service in manifest["databases"].values():
        yield service["globals"]
        yield from service["databases"].values()
    if "vault" in manifest:
        yield manifest["vault"]
    yield from manifest["caches"].values()
    for volume in manifest["volumes"].values():
        yield from volume.get("sqlite", {}).values()


def directories(manifest: Mapping[str, t.Any]) -> dict[str, Mapping[str, t.Any]]:
    """The directories of the manifest whose files are in the snapshot, by name."""
    volumes = {name: volume for name, volume in manifest["volumes"].items() if volume["rule"] == FILES}
    return {**volumes, **{f"the {name}": tree for name, tree in manifest["trees"].items()}}


def size(manifest: Mapping[str, t.Any]) -> int:
    """The bytes of everything."""
    parts = [*described(manifest), *directories(manifest).values()]
    return sum(part["bytes"] for part in parts)


def check_whole(file: Path, about: Mapping[str, t.Any]) -> None:
    """Raises Problem unless a restored file is what it was."""
    if not file.is_file():
        raise Problem(f"{about['file']} is not in the snapshot.")
    if file.stat().st_size != about["bytes"]:
        raise Problem(f"{about['file']} has {file.stat().st_size} bytes instead of {about['bytes']}.")
    if files.sha256(file) != about["sha256"]:
        raise Problem(f"{about['file']} has other content than when it was made.")


def prove(manifest: Mapping[str, t.Any], place: Callable[[str], Path]) -> str:
    """What was proven. Raises Problem."""
    begun = calendar.timegm(time.strptime(manifest["started"], "%Y-%m-%dT%H:%M:%SZ"))
    wrong, compared, changed = [], 0, 0
    for name, about in directories(manifest).items():
        folder = place(about["path"])
        there = sum(1 for _ in files.regular(folder)) if folder.is_dir() else 0
        if about["files"] and not there:
            wrong.append(f"{name} is empty, and had {about['files']} files")
            continue
        for sample in about["sample"]:
            problem = files.difference(folder / sample["path"], sample)
            compared += not problem
            if problem and files.changed_since(folder / sample["path"], begun):
                changed += 1
            elif problem:
                wrong.append(f"{name}: {sample['path']} {problem}")
        for copy in about.get("sqlite", {}).values():
            check_whole(place(copy["file"]), copy)
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise Problem(f"Restored files are not what they were: {'; '.join(wrong[:SHOWN])}{more}.")
    return f"{compared} files compared, {changed} had changed while the backup was made"
