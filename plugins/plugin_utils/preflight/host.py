# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine: system, architecture and disk, and when it may reboot."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils import move
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.docker import root_of
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer

ARCHITECTURES = ("x86_64", "aarch64")
WRITTEN = ("/etc", "/usr/local", "/var/lib/openmates")  # and openmates_directory


def check_operating_system(run: Preflight) -> Iterator[str]:
    system = run.facts.get("distribution", "unknown")
    version = str(run.facts.get("distribution_major_version") or run.facts.get("distribution_version") or "")
    if (system, version.partition(".")[0]) != ("Debian", "13"):
        yield run.host_problem(
            f"it runs {system} {version}".rstrip(), "Install Debian 13 (trixie), the only tested system"
        )


def check_architecture(run: Preflight) -> Iterator[str]:
    architecture = run.facts.get("architecture", "unknown")
    if architecture not in ARCHITECTURES:
        yield run.host_problem(
            f"its architecture is {architecture}", f"Use {' or '.join(ARCHITECTURES)}: there are no other images"
        )


def check_processor(run: Preflight) -> Iterator[str]:
    """A virtual machine may hide instructions that its host has; Directus' image processing needs them."""
    if lacks := run.host.get("processor_lacks"):
        yield run.host_problem(
            f"its processor lacks {', '.join(lacks)}, which x86-64-v2 includes and the image of Directus needs",
            "Give the virtual machine its host's processor type (`host` in Proxmox and QEMU), or use a newer machine",
        )


def check_disk(run: Preflight) -> Iterator[str]:
    """The disk of Docker's data, and those that configuration and state are written to."""
    minimum = run.get("openmates_min_disk_gb", 20)
    mount = _disk_of(run, root_of(run))
    size, free = (integer(mount.get(key)) for key in ("size_total", "size_available"))
    if size is not None and size < minimum * 10**9:
        yield run.host_problem(
            f"the disk at {mount['mount']} has {size / 10**9:.1f} GB, fewer than {minimum} GB (openmates_min_disk_gb)",
            "Use a larger disk",
        )
    elif free is not None and free < 2 * 10**9:
        yield run.host_problem(
            f"only {free / 10**9:.1f} GB are free on the disk at {mount['mount']}",
            "Make room for at least 2 GB, e.g. with `sudo docker image prune`. With --all it removes the images that a"
            " rollback needs, too",
        )
    written = [*WRITTEN, str(run.get("openmates_directory") or "/")]
    others = {disk["mount"]: disk for disk in (_disk_of(run, directory) for directory in written) if disk}
    others.pop(mount.get("mount"), None)
    for disk in others.values():
        free = integer(disk.get("size_available"))
        if free is not None and free < 10**9 // 2:
            yield run.host_problem(
                f"only {free / 10**6:.0f} MB are free on the disk at {disk['mount']}",
                "Make room for at least 500 MB: `sudo du -xh --max-depth=2 / | sort -h | tail` shows what takes most",
            )


def _disk_of(run: Preflight, directory: str) -> dict:
    """Ansible's facts of the disk that holds a directory; empty for an overlay, as a container's root is."""
    mounts = [mount for mount in run.facts.get("mounts") or [] if _holds(mount.get("mount", ""), directory)]
    return max(mounts, key=lambda mount: len(mount["mount"]), default={})


def _holds(mount: str, directory: str) -> bool:
    return mount == "/" or directory == mount or directory.startswith(f"{mount.rstrip('/')}/")


def check_moved(run: Preflight) -> Iterator[str]:
    """A server that forwards to another one, or whose data is incomplete. The lock refuses it too, in real runs."""
    name, record = str(run.host.get("name", "this server")), run.host.get("move") or {}
    command = move.from_table(run.host.get("commands") or {})
    if not run.host.get("moving_now") and (moved := move.refusal(name, record, command=command)):
        yield run.host_problem(moved, "See docs/move.md")


CHECKS = (
    check_moved,
    check_operating_system,
    check_architecture,
    check_processor,
    check_disk,
)
