# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's lines in Docker's log files, which has those of containers that still exist."""

from __future__ import annotations

import calendar
import re
import subprocess
import time
from collections import deque
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.module_utils.logs.line import Line, NotThere, Wanted

LABELS = "label=com.docker.compose.project={}", "label=com.docker.compose.service={}"
ID_DIGITS = 12
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.?(\d*)Z ?(.*)", re.DOTALL)


def lines(project: str, wanted: Wanted, docker: str = "docker") -> list[Line]:
    """The newest lines, the oldest of them first. Raises NotThere."""
    filters = [
        part
        for label, value in zip(LABELS, (project, wanted.service), strict=True)
        for part in ("--filter", label.format(value))
    ]
    try:
        listed = subprocess.run(
            [docker, "ps", "--all", "--quiet", "--no-trunc", *filters], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NotThere(f"docker cannot be run: {error.strerror}") from None
    if listed.returncode:
        raise NotThere(listed.stderr.strip())
    matches = re.compile(wanted.grep).search
    newest: deque[Line] = deque(maxlen=wanted.limit)
    found: list[Line] = []
    for container in listed.stdout.split():
        newest.clear()
        newest.extend(line for line in _of(docker, container, wanted.since) if matches(line.text))
        found += newest
    return sorted(found)[-wanted.limit :]


def _of(docker: str, container: str, since: float) -> Iterator[Line]:
    command = [docker, "logs", "--timestamps", f"--since={since:.6f}", container]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for text in process.stdout or ():
            if match := _STAMP.fullmatch(text.rstrip("\n")):
                yield Line(_nanoseconds(match[1], match[2]), container[:ID_DIGITS], match[3])


def _nanoseconds(whole: str, fraction: str) -> int:
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 10**9 + int(fraction.ljust(9, "0"))
