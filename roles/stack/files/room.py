#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that a host has the disk space and memory that a roll-out needs, before anything is changed.

Argument: a JSON object with `pull`, the services whose images are needed; `second`, those of which a second container
starts beside the running one; and `services`, which has `image` and `mem_limit` of each, as in a Compose file. Without
`services`, those of the Compose project in the working directory count. Ends with status 1 and one line per problem.

Registries are only asked for the size of an image when space is short: asking counts as a pull at Docker Hub.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

GB = 10**9
MIB = 2**20
#: No image of the project is larger, unpacked; with as much space for each nothing has to be asked.
LARGEST = 4 * GB
#: Assumed of an image whose registry does not answer: OpenMates' own takes 1.4 GB unpacked, and 0.5 GB while it comes.
UNKNOWN = 2 * GB
#: An image needs its compressed size while it is pulled, and about three times as much once it is unpacked.
UNPACKED = 4
#: Space for what the services write meanwhile.
RESERVE = GB
ASK_SECONDS = 20
#: Images at a time: more of Docker's client at once take a small server's processors for longer than each may take.
ASKED_AT_ONCE = 3
PROJECT = "openmates"
#: Logins of registries, openmates_registry_logins. Without them, those of root count.
LOGINS = Path("secrets/.docker/config.json")
MEMINFO = Path("/proc/meminfo")
LIMIT = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SETTING = "see openmates_services, or openmates_apps for an App"


def docker(*arguments: str, seconds: float | None = 60) -> str:
    """Docker's output, empty if the command fails or takes longer."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


# ---------------------------------------------------------------- disk


def compressed_size(image: str, platform: str) -> int | None:
    """The size of an image in its registry, for a platform such as linux/arm64; None if the registry does not tell."""
    try:
        manifest = json.loads(docker("manifest", "inspect", image, seconds=ASK_SECONDS))
        for entry in manifest.get("manifests") or []:
            if f"{entry['platform']['os']}/{entry['platform']['architecture']}" == platform:
                name = re.sub(r":[^:/]+$", "", image.partition("@")[0])
                answer = docker("manifest", "inspect", f"{name}@{entry['digest']}", seconds=ASK_SECONDS)
                manifest = json.loads(answer)
                break
        return sum(layer["size"] for layer in manifest["layers"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def disk_problem(images: dict[str, list[str]]) -> str:
    """Why the images that the host lacks do not fit, or an empty string. ``images``: the services of each."""
    missing = [image for image in images if not docker("image", "inspect", "--format", "{{.Id}}", image)]
    root = docker("info", "--format", "{{.DockerRootDir}}")
    if not missing or not root:
        return ""
    disk = os.statvfs(root)
    free = disk.f_bavail * disk.f_frsize
    if free >= len(missing) * LARGEST + RESERVE:
        return ""
    platform = docker("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        sizes = list(pool.map(lambda image: compressed_size(image, platform), missing))
    needs = [UNKNOWN if size is None else size * UNPACKED for size in sizes]
    if free >= sum(needs) + RESERVE:
        return ""
    each = ", ".join(
        f"{image} {need / GB:.1f} GB{' assumed, as its registry does not tell' if size is None else ''}"
        for image, need, size in zip(missing, needs, sizes, strict=True)
    )
    needed = sum(needs) + RESERVE
    return (
        f"{free / GB:.1f} GB are free on the disk of Docker's data, {root}, and {needed / GB:.1f} GB are needed:"
        f" for images that this host lacks ({each}), and {RESERVE / GB:.0f} GB for the services. Make room:"
        " `sudo docker system df` shows what Docker keeps, and with a lower openmates_releases_kept it keeps the images"
        " of fewer releases. Or use a larger disk"
    )


# ---------------------------------------------------------------- memory


def in_bytes(limit: object) -> int:
    """A memory limit of Compose, such as 640M, in bytes; 0 for none."""
    found = LIMIT.fullmatch(str(limit))
    return int(found[1]) * UNITS[found[2].lower()] if found else 0


def available_memory() -> int:
    """What the kernel can give to new processes without swapping, in bytes."""
    [line] = [line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(line.split()[1]) * 1024


def memory_problem(limits: dict[str, int]) -> str:
    """Why the second containers do not fit, or an empty string. ``limits``: the memory limit of each service.

    They start one after the other, so the largest counts. A service that does not run gets no second container, and one
    that an interrupted roll-out has left with two does not get a third.
    """
    labels = docker(
        "ps", "--filter", f"label=com.docker.compose.project={PROJECT}", "--filter",
        "label=com.docker.compose.oneoff=False", "--format", '{{.Label "com.docker.compose.service"}}',
    ).split()  # fmt: skip
    second = {name: limit for name, limit in limits.items() if labels.count(name) == 1}
    if not second:
        return ""
    largest = max(second, key=second.__getitem__)
    available = available_memory()
    if available >= second[largest]:
        return ""
    return (
        f"{available // MIB} MB of memory are available, and a second {largest} beside the running one may need"
        f" {second[largest] // MIB} MB, its memory limit ({SETTING}). Make memory available:"
        " `ps aux --sort=-rss | head` shows what takes it, `sudo docker stats --no-stream` the services. Or lower the"
        " limit, or use a larger server"
    )


def fail(why: str) -> NoReturn:
    """End with a reason, on standard output: Ansible's `script` has the standard error of a terminal there too."""
    print(why)
    sys.exit(1)


def declared() -> dict[str, dict]:
    """The services of the Compose project in the working directory."""
    command = ["docker", "compose", "--ansi=never", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"The Compose files cannot be read: {done.stderr.strip()}")
    return json.loads(done.stdout)["services"]


def main(given: dict) -> None:
    if LOGINS.exists():
        os.environ["DOCKER_CONFIG"] = str(LOGINS.parent.resolve())
    services = given.get("services") or declared()
    images: dict[str, list[str]] = {}
    for name in given["pull"]:
        images.setdefault(services[name]["image"], []).append(name)
    limits = {name: in_bytes(services[name].get("mem_limit")) for name in given["second"]}
    if problems := [problem for problem in (disk_problem(images), memory_problem(limits)) if problem]:
        fail("\n".join(f"This host: {problem}." for problem in problems))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
