# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The isolated Compose project of a proof: containers without a network, one at a time, of which nothing is left."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from openmates_backup import commands
from openmates_backup.containers import Containers
from openmates_backup.problem import Problem

MEMORY = "256m"  # with the 250 MB of the unit: 512 MiB in all
SECONDS = 600  # for a service to get ready: the proof has the lowest priority
PAUSE = 1.0  # each look costs Docker some of the CPU that clients need
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
#: What an image's entrypoint needs that begins as root and goes on as another user.
AS_ROOT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")


class Project:
    """The containers and volumes with the label of a project of their own."""

    def __init__(self, project: str, images: Mapping[str, str]) -> None:
        """`project`: the server's own. `images`: those of the manifest, by service."""
        self.live, self.name, self.images = Containers(project), f"{project}-proof", images

    @contextlib.contextmanager
    def started(
        self, service: str, command: Sequence[str], volumes: Mapping[str, str], options: Sequence[str] = ()
    ) -> Iterator[Containers]:
        """A service that runs in a network of its own with nothing in it, until the end of the block. Raises Problem.

        `volumes`: what to mount, by the path in the container: a name for a new volume, or a directory.
        """
        user = self._user(service)
        name = f"{self.name}-{service}-1"
        run = ["docker", "run", "--detach", "--pull=never", f"--name={name}", "--network=none", "--read-only"]
        run += ["--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=256"]
        run += [f"--memory={MEMORY}", f"--memory-swap={MEMORY}", "--cpu-shares=2"]
        run += [f"--label={PROJECT}={self.name}", f"--label={SERVICE}={service}", "--log-driver=local"]
        run += [f"--user={user}"] if user else [f"--cap-add={one}" for one in AS_ROOT]
        for path, source in volumes.items():
            if not source.startswith("/"):
                source = f"{self.name}_{source}"
                self._docker("volume", "create", f"--label={PROJECT}={self.name}", source)
            run.append(f"--volume={source}:{path}")
        try:
            commands.output([*run, *options, self._image(service), *command], f"Starting {service} for the proof")
            yield Containers(self.name)
        finally:
            self.remove()

    def wait(self, service: str, ready: Callable[[], bool]) -> None:
        """Return once it is ready. Raises Problem if it ends before, or after a while."""
        end = time.monotonic() + SECONDS
        while not ready():
            name = f"{self.name}-{service}-1"
            state = self._docker("inspect", "--format={{.State.Running}} {{.State.OOMKilled}}", name).split()
            if state[0] != "true" or time.monotonic() > end:
                log = subprocess.run(["docker", "logs", "--tail=5", name], capture_output=True, check=False)
                why = "needs more memory than the proof has" if state[1] == "true" else "does not work"
                raise Problem(f"{service} {why} with the restored data: {commands.reason(log.stdout + log.stderr)}.")
            time.sleep(PAUSE)

    def remove(self) -> None:
        """Remove everything with the project's label: also what a proof left that was killed. Raises Problem."""
        label = f"--filter=label={PROJECT}={self.name}"
        for list_, remove in (
            (("ps", "--all", "--quiet", label), ("rm", "--force", "--volumes")),
            (("volume", "ls", "--quiet", label), ("volume", "rm", "--force")),
        ):
            for last in (False, False, True):  # another thread or process may be removing them, too
                if not (found := self._docker(*list_).split()):
                    break
                removed = subprocess.run(["docker", *remove, *found], capture_output=True, check=False)
                if removed.returncode and last:
                    raise Problem(f"What is left of a proof cannot be removed: {commands.reason(removed.stderr)}.")

    def _image(self, service: str) -> str:
        """The image that the snapshot was made with, or, after an upgrade, that of the running service."""
        noted = self.images.get(service, "")
        there = subprocess.run(["docker", "image", "inspect", noted], capture_output=True, check=False)
        return noted if noted and there.returncode == 0 else str(self.live.inspect(service)["Image"])

    def _user(self, service: str) -> str:
        """The user of the running service; empty for an image that begins as root."""
        return str(self.live.inspect(service)["Config"]["User"] or "")

    def _docker(self, *arguments: str) -> str:
        return commands.output(["docker", *arguments], f"docker {' '.join(arguments[:2])}").decode()


def program(containers: Containers, service: str, *command: str) -> tuple[int, str]:
    """The exit code of a program in a container, and its output."""
    done = subprocess.run(
        containers.inside(service, *command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout
