# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: their files are restored in their place, so that no second copy has to fit on the disk."""

from __future__ import annotations

import json
import os
import shutil
import typing as t
from collections.abc import Mapping, Sequence
from pathlib import Path

from openmates_backup import commands, files
from openmates_backup.config import Config
from openmates_backup.problem import Problem
from openmates_backup.repository import moment
from openmates_backup.restic import Restic
from openmates_backup.restore_parts import Part
from openmates_backup.restore_target import SNAPSHOTS

PERMISSIONS, SETGID, GO_SETGID = 0o777, 0o2000, 1 << 22  # restic shows modes as Go has them
SQLITE_MODE = 0o640


class Directory(t.NamedTuple):
    """A directory in a snapshot, with owner and mode, and whether it is empty."""

    node: dict[str, t.Any]
    empty: bool


def have_volume(config: Config, name: str) -> Path:
    """The directory of a volume, which is made as Compose would. Raises Problem."""
    folder = config.volume_path(name)
    if not folder.is_dir():
        labels = {"project": config.project, "volume": name}
        options = [f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        commands.output(
            ["docker", "volume", "create", *options, f"{config.project}-{name}"], f"Making the volume {name}"
        )
    return folder


def restore_volume(
    opened: Restic,
    config: Config,
    snapshot: str,
    part: Part,
    staged: Mapping[str, Path],
    about: Directory | None = None,
    how: str = "--verify",
) -> dict[str, t.Any]:
    """Make a volume what it was, byte by byte, with owners and modes. Raises Problem and OSError.

    `about`: the directory in the snapshot, if it has been read. `how`: restic's option for files that are there.
    """
    folder, source = have_volume(config, part.name), part.about["path"]
    root, empty = about or directories_in(opened, snapshot, [source])[source]
    if empty:  # restic deletes nothing then
        remove_contents(folder)
    else:
        opened.call("restore", f"{snapshot}:{source}", f"--target={folder}", "--delete", how, "--no-lock")
    take_owner(folder, root)
    for name, copy in part.about["sqlite"].items():
        put_file(staged[copy["file"]], folder / name, SQLITE_MODE)
    newer = compared(folder, part)
    found = list(files.regular(folder))
    return {"files": len(found), "bytes": sum(status.st_size for _, status in found), "changed_meanwhile": newer}


def directories_in(opened: Restic, snapshot: str, paths: Sequence[str]) -> dict[str, Directory]:
    """Directories in a snapshot, by their paths. Raises Problem."""
    lines = map(json.loads, opened.call("ls", "--json", "--no-lock", snapshot, *paths)[1].splitlines())
    nodes = {node["path"]: node for node in lines if "path" in node}
    if missing := [path for path in paths if path not in nodes]:
        raise Problem(f"{', '.join(missing)} is not in the snapshot. Use another one.")
    filled = {str(Path(path).parent) for path in nodes}
    return {path: Directory(nodes[path], path not in filled) for path in paths}


def remove_contents(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def take_owner(folder: Path, node: Mapping[str, t.Any]) -> None:
    os.chown(folder, node["uid"], node["gid"])
    folder.chmod(node["mode"] & PERMISSIONS | (SETGID if node["mode"] & GO_SETGID else 0))


def put_file(source: Path, target: Path, mode: int) -> None:
    """A file for the service that owns the directory, as a whole."""
    owner = target.parent.stat()
    beside = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(source, beside)
    os.chown(beside, owner.st_uid, owner.st_gid)
    beside.chmod(mode)
    beside.replace(target)


def put_cache(folder: Path, about: Mapping[str, t.Any], source: Path) -> None:
    """The snapshot that the cache loads when it starts next, and no other. Raises OSError."""
    for pattern in SNAPSHOTS:
        for file in folder.glob(pattern):
            file.unlink()
    put_file(source, folder / about["persisted_as"], 0o600)


def compared(folder: Path, part: Part) -> list[str]:
    """The files of the sample that changed while the backup was made. Raises Problem for one that differs otherwise."""
    differing = [one["path"] for one in part.about["sample"] if files.difference(folder / one["path"], one)]
    taken = moment(part.time) - 1  # it has whole seconds
    wrong = [path for path in differing if not files.changed_since(folder / path, taken)]
    if wrong:
        raise Problem(
            f"The volume {part.name} is not what the manifest says: {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Use another snapshot."
        )
    return differing


def stack_differences(config: Config, about: Mapping[str, t.Any]) -> list[str]:
    """The names of Compose files and secrets that are not those of the snapshot."""
    folder, found = config.stack, []
    for one in about["sample"]:
        path = folder / one["path"]
        if not path.is_file() or (path.stat().st_size, files.sha256(path)) != (one["bytes"], one["sha256"]):
            found.append(one["path"])
    return found


def add_releases(opened: Restic, config: Config, snapshot: str, manifest: Mapping[str, t.Any]) -> None:
    """Add the records of releases that this server lacks, which rollback.yml returns to. Raises Problem."""
    if manifest["release"]:
        source, target = f"{manifest['directories']['state']}/releases", config.state / "releases"
        opened.call("restore", f"{snapshot}:{source}", f"--target={target}", "--overwrite=never", "--no-lock")
