# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the cache: its snapshot, loaded by its own program."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping
from pathlib import Path

from openmates_backup import commands
from openmates_backup.cache import Cache
from openmates_backup.problem import Problem
from openmates_backup.proof_project import Project, program

LARGEST = 64 << 20  # bytes of a snapshot that can be loaded with the proof's memory
LIMITS = ("--proactor_threads=1", "--maxmemory=256mb")


class Loaded(Cache):
    """The cache in the container, which has no password: nothing can reach it."""

    def ask(self, *words: str) -> str:
        command = self.containers.inside(self.service, "redis-cli", "-e", "--raw", *words)
        return commands.output(command, f"{words[0]} of the restored {self.service}").decode(errors="replace").strip()


def prove(project: Project, service: str, about: Mapping[str, t.Any], place: Callable[[str], Path]) -> str:
    """What was proven. Its digest is known to be right. Raises Problem."""
    snapshot = place(about["file"])
    if about["bytes"] > LARGEST:
        return f"{about['bytes']} bytes as they were; too many to be loaded with the proof's memory"
    folder = snapshot.parent  # below a directory for root alone; the cache's user reaches it through the mount
    folder.chmod(0o777)
    snapshot.chmod(0o644)
    command = ["dragonfly", "--dir=/data", f"--dbfilename={snapshot.stem}", "--nodf_snapshot_format", *LIMITS]
    command += ["--logtostderr", "--version_check=false"]
    with project.started(service, command, {"/data": str(folder)}) as containers:
        project.wait(service, lambda: program(containers, service, "redis-cli", "ping")[1].strip() == "PONG")
        keys = Loaded(containers, service).keys()
    if about["keys"] and not keys:
        raise Problem(f"The snapshot of {service} had {about['keys']} keys, and none is there when it is loaded.")
    return f"{keys} of {about['keys']} keys; others have expired"
