#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull the images that a host lacks, before anything is stopped, and refuse those that are not for its processor.

Arguments: the services of the Compose project in the working directory. Prints each image that it pulled. Ends with
status 1 and one line for each image that cannot be had, or that would not run: Docker starts an image for another
processor, and what it then logs is `exec format error`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

#: At a time, as Compose does.
PULLS = 3


def docker(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


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
    return f"It is the image of {names}: see openmates_images, or openmates_apps for an App"


def pull_if_missing(image: str, services: list[str], host: str) -> tuple[bool, str]:
    """Pull an image that the host lacks. Returns whether it was pulled, and what is wrong with it."""
    here = platform(image)
    pulled = False
    if here is None:
        code, _, error = docker("pull", "--quiet", image)
        if code:
            reason = error.splitlines()[-1] if error else "no reason given"
            if "no matching manifest" in reason:
                reason = f"it has no variant for this host, {host}"
            return False, f"{image} cannot be pulled: {reason}. {setting(services)}"
        here, pulled = platform(image), True
    if here not in (host, None):
        return pulled, f"{image} is made for {here}, and this host is {host}. {setting(services)}"
    return pulled, ""


def main(services: list[str]) -> None:
    code, host, error = docker("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
    if code:
        sys.exit(f"Docker does not answer: {error}")
    images = declared(services)
    with ThreadPoolExecutor(PULLS) as pool:
        results = dict(
            zip(images, pool.map(lambda image: pull_if_missing(image, images[image], host), images), strict=True)
        )
    for image, (pulled, _) in results.items():
        if pulled:
            print(image)
    if problems := [problem for _, problem in results.values() if problem]:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(sys.argv[1:])
