"""A fault: the file system of a service's volume has no space left."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cells import catalogue, disk
from lab_host import ROOT, HostError, LabHost

SPARE_KIB = 64 * 1024


class FullDisk:
    """A volume moves to a small disk of its own, a file of this machine, which is then filled. The service and the
    exporter on the host see it as they see any disk."""

    lasting, ends_with_process = True, False

    def __init__(self, host: LabHost, service: str) -> None:
        self.host, self.service = host, service
        self.volume = f"/var/lib/docker/volumes/openmates-{next(iter(catalogue()[service]['volumes']))}/_data"
        self.mount = f"/srv/lab-disk/{service}"  # the exporter leaves out what is below /run
        self.image = ROOT / f".lab/faults/{host.name}-{service}.disk"

    def prepare(self) -> None:
        self.image.parent.mkdir(parents=True, exist_ok=True)
        kib = 2 * int(self.host.run(f"du -sk {self.volume}").split()[0]) + SPARE_KIB
        _machine("truncate", f"--size={kib}K", self.image)
        _machine("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        loop = _machine("losetup", "--find", "--show", self.image)
        with self._stopped():
            self.host.outside(
                f"mkdir -p {self.mount}; rm -f {disk(self.service)};"
                f" mknod {disk(self.service)} b 7 {loop.removeprefix('/dev/loop')};"
                f" mount -t ext4 {disk(self.service)} {self.mount}; rmdir {self.mount}/lost+found;"
                f" chmod --reference={self.volume} {self.mount}; chown --reference={self.volume} {self.mount};"
                f" cp -a {self.volume}/. {self.mount}; mount --bind {self.mount} {self.volume}"
            )

    def apply(self) -> None:
        self.host.run(f"cat /dev/zero >> {self.mount}/.fill 2> /dev/null || true")

    keep = apply

    def in_force(self) -> bool:
        return int(self.host.run(f"df --output=avail --block-size=1K {self.mount} | tail -1")) < 256

    def release(self) -> None:
        self.host.run(f"rm -f {self.mount}/.fill")

    def remove(self) -> None:
        """Move the data back, with what the service has written meanwhile."""
        if not self.host.shell(f"mountpoint -q {self.volume}", check=False).returncode:
            with self._stopped():
                self.host.outside(
                    f"umount {self.volume}; rm -f {self.mount}/.fill; find {self.volume} -mindepth 1 -delete;"
                    f" cp -a {self.mount}/. {self.volume}; umount {self.mount}; rmdir {self.mount}"
                )
        for loop in _machine("losetup", "--noheadings", "--output=NAME", "--associated", self.image).split():
            _machine("losetup", "--detach", loop)
        self.image.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        """Without its containers. They see another file system only after a start."""
        ids = " ".join(container["Id"] for container in self.host.containers(self.service, running=False))
        if not ids:
            raise HostError(f"{self.host.name} has no {self.service}: provision it with site.yml first")
        self.host.shell(f"docker stop {ids}")
        try:
            yield
        finally:
            self.host.shell(f"docker start {ids}")


def _machine(*words: str | Path) -> str:
    """Standard output of a command on this machine. Raises HostError."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
