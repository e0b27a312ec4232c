# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker's engine on a host has, and where it keeps it."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils.docker_api import SOCKET, Docker, DockerProblem

PROJECT = "openmates"
DEFAULT_ROOT = "/var/lib/docker"
#: Written by a running engine. Without it, connecting to the socket would start the engine.
RUNNING = Path("/run/docker.pid")
#: Engines that Debian's package manager does not know.
OTHER_ENGINES = ("/snap/bin/docker", "/usr/local/bin/dockerd")
_PROJECT_LABEL = "com.docker.compose.project"
_DIRECTORY_LABEL = "com.docker.compose.project.working_dir"
_WHERE = re.compile(r"^\s*Where\s*=\s*(\S+)", re.M)


def found(engine: Docker) -> dict[str, t.Any]:
    """The engine's directory, its containers, networks and volumes with names of the project, and others' subnets.

    Empty if it does not run or does not answer.
    """
    if not RUNNING.exists():
        return {}
    try:
        networks = engine.call("GET", "/networks")
        return {
            "root": engine.call("GET", "/info")["DockerRootDir"],
            "objects": list(_objects(engine, networks)),
            "subnets": [
                {"network": network["Name"], "subnet": entry["Subnet"]}
                for network in networks
                for entry in network["IPAM"]["Config"] or []
                if network["Name"] != PROJECT and entry.get("Subnet")
            ],
        }
    except (DockerProblem, KeyError, TypeError):
        return {}


def access(socket: Path = Path(SOCKET)) -> str:
    """Owner, group and permissions of the engine's socket, as in root:docker 660; empty without it."""
    try:
        return f"{socket.owner()}:{socket.group()} {socket.stat().st_mode & 0o7777:o}"
    except (OSError, KeyError):  # or a group that was removed
        return ""


def _objects(engine: Docker, networks: list[dict]) -> t.Iterator[dict[str, str]]:
    kinds = {
        "volume": engine.call("GET", "/volumes").get("Volumes") or [],
        "network": networks,
        "container": engine.call("GET", "/containers/json?all=1"),
    }
    for kind, entries in kinds.items():
        for entry in entries:
            name = entry["Names"][0].lstrip("/") if kind == "container" else entry["Name"]
            labels = entry.get("Labels") or {}
            project = labels.get(_PROJECT_LABEL, "")
            if name.startswith(PROJECT) or project == PROJECT:
                directory = labels.get(_DIRECTORY_LABEL, "")
                yield {
                    "kind": kind,
                    "name": name,
                    "project": project,
                    "directory": str(Path(directory).resolve()) if directory else "",
                }


def other_engines(root: Path = Path("/")) -> list[str]:
    """Programs of another Docker that no Debian package brought."""
    return [program for program in OTHER_ENGINES if (root / program.lstrip("/")).exists()]


def disk_of(directory: str, mounts: t.Collection[str], etc: Path = Path("/etc")) -> dict[str, t.Any]:
    """The real path of a directory that may not exist yet, the mount point that holds it, and the one after a boot."""
    path = Path(directory).resolve()
    declared = {*_fstab(etc / "fstab"), *_mount_units(etc / "systemd/system")}
    return {"path": str(path), "mount": _holder(path, mounts), "mount_at_boot": _holder(path, declared)}


def _holder(path: Path, mounts: t.Collection[str]) -> str:
    """The longest of the mount points that a path is at or below."""
    return next((str(place) for place in (path, *path.parents) if str(place) in mounts), "/")


def _fstab(table: Path) -> list[str]:
    lines = table.read_text().splitlines() if table.is_file() else []
    entries = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    # Systemd and fstab write a blank in a path as \040.
    return [fields[1].replace("\\040", " ").rstrip("/") or "/" for fields in entries if len(fields) > 1]


def _mount_units(directory: Path) -> list[str]:
    units = sorted(directory.glob("*.mount")) if directory.is_dir() else []
    texts = [unit.read_text(errors="replace") for unit in units if unit.is_file()]
    return [match[1].rstrip("/") or "/" for text in texts for match in _WHERE.finditer(text)]
