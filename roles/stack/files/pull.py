#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull the images that a host lacks, before anything is stopped, and refuse those that are not for its processor.

Arguments: the services of the Compose project in the working directory, or `--images` and a JSON object of images by
service, ahead of a version whose Compose file is not written yet. Prints each image that it pulled. Ends with
status 1 and one line for each image that cannot be had, or that would not run: Docker starts an image for another
processor, and what it then logs is `exec format error`. While it pulls, a line `progress: ...` on standard error names
the services and how many layers of their images have come.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: What registries answer to a request without a login, or with a wrong one: some, that the image does not exist.
REFUSED = re.compile(r"unauthorized|denied|no basic auth credentials|authentication required", re.IGNORECASE)
#: At a time, as Compose does.
PULLS = 3
SHOW_EVERY = 10.0  # seconds
#: Logins of registries, openmates_registry_logins. Without them, those of root count.
LOGINS = Path("secrets/.docker/config.json")
#: What Docker prints of a layer, e.g. `6e909acdb790: Pull complete`.
LAYER = re.compile(r"^([0-9a-f]{12}): (Pulling fs layer|Pull complete|Already exists)")


class Progress:
    """The images that are being pulled, with their layers; prints a line every few seconds while used with `with`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self.pulls: dict[str, tuple[float, set[str], set[str]]] = {}
        self.ended = threading.Event()

    def __enter__(self) -> Progress:
        threading.Thread(target=self._show, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()

    def start(self, name: str) -> None:
        self.pulls[name] = (time.monotonic(), set(), set())

    def note(self, name: str, line: str) -> None:
        """Note what Docker prints of a pull."""
        if found := LAYER.match(line):
            _, layers, complete = self.pulls[name]
            layers.add(found[1])
            if found[2] != "Pulling fs layer":
                complete.add(found[1])

    def end(self, name: str) -> None:
        del self.pulls[name]
        self.done += 1

    def text(self) -> str:
        parts = [f"{self.done} of {self.count} images are here"]
        for name, (began, layers, complete) in self.pulls.copy().items():
            seconds = f"{time.monotonic() - began:.0f} s"
            what = f"{len(complete)} of {len(layers)} layers" if layers else "waiting for the registry"
            parts.append(f"{name}: {what}, {seconds}")
        return "; ".join(parts)

    def _show(self) -> None:
        while not self.ended.wait(SHOW_EVERY):
            print(f"progress: {self.text()}", file=sys.stderr, flush=True)


def docker(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def pull(image: str, name: str, progress: Progress) -> tuple[int, str]:
    """Pull an image. Returns Docker's exit status and its last words."""
    progress.start(name)
    try:
        with tempfile.TemporaryFile("w+") as errors:
            command = ["docker", "pull", image]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
                for line in process.stdout or ():
                    progress.note(name, line)
            errors.seek(0)
            return process.returncode, errors.read().strip()
    finally:
        progress.end(name)


def declared(services: list[str]) -> dict[str, list[str]]:
    """The services of each image, for these services."""
    code, output, error = docker("compose", "--ansi=never", "config", "--format", "json")
    if code:
        sys.exit(error)
    images: dict[str, list[str]] = {}
    for name, service in json.loads(output)["services"].items():
        if name in services:
            images.setdefault(service["image"], []).append(name)
    return images


def platform(image: str) -> str | None:
    """What an image of this host is made for, e.g. linux/arm64; None when it is not here."""
    code, output, _ = docker("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image)
    return output if code == 0 else None


def setting(services: list[str]) -> str:
    """Where the image is set."""
    names = ", ".join(sorted(services))
    return f"It is the image of {names}: see openmates_services, or openmates_apps for an App"


def pull_if_missing(image: str, services: list[str], host: str, progress: Progress) -> tuple[bool, str]:
    """Pull an image that the host lacks. Returns whether it was pulled, and what is wrong with it."""
    here = platform(image)
    pulled = False
    if here is None:
        code, error = pull(image, ", ".join(sorted(services)), progress)
        if code:
            reason = error.splitlines()[-1] if error else "no reason given"
            if "no matching manifest" in reason:
                reason = f"it has no variant for this host, {host}"
            elif REFUSED.search(reason):
                reason += " (if it is not public, openmates_registry_logins has the login of its registry)"
            return False, f"{image} cannot be pulled: {reason}. {setting(services)}"
        here, pulled = platform(image), True
    else:
        progress.done += 1
    if here not in (host, None):
        return pulled, f"{image} is made for {here}, and this host is {host}. {setting(services)}"
    return pulled, ""


def main(services: list[str]) -> None:
    if LOGINS.exists():
        os.environ["DOCKER_CONFIG"] = str(LOGINS.parent.resolve())
    code, host, error = docker("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
    if code:
        sys.exit(f"Docker does not answer: {error}")
    if services[:1] == ["--images"]:
        images: dict[str, list[str]] = {}
        for name, image in json.loads(services[1]).items():
            images.setdefault(image, []).append(name)
    else:
        images = declared(services)
    with Progress(len(images)) as progress, ThreadPoolExecutor(PULLS) as pool:
        found = pool.map(lambda image: pull_if_missing(image, images[image], host, progress), images)
        results = dict(zip(images, found, strict=True))
    for image, (pulled, _) in results.items():
        if pulled:
            print(image)
    if problems := [problem for _, problem in results.values() if problem]:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(sys.argv[1:])
