# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that are run, and the reason if one fails."""

from __future__ import annotations

import subprocess
import typing as t
from collections.abc import Sequence
from pathlib import Path

from openmates_backup.problem import Problem

LAST = 400  # characters of a program's output in a message


def reason(output: bytes | str) -> str:
    """The end of what a program wrote, in one line."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    return " ".join(text.split())[-LAST:] or "it printed no reason"


def output(command: Sequence[str], what: str, *, source: t.BinaryIO | None = None) -> bytes:
    """What a command prints. Raises Problem with `what` failed."""
    return _run(command, what, subprocess.PIPE, source).stdout


def to_file(command: Sequence[str], what: str, path: Path) -> None:
    """Write what a command prints to a file. Raises Problem."""
    with path.open("xb") as file:
        _run(command, what, file, None)


def _run(command: Sequence[str], what: str, to: t.Any, source: t.BinaryIO | None) -> subprocess.CompletedProcess:
    done = subprocess.run(command, stdin=source or subprocess.DEVNULL, stdout=to, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Problem(f"{what} failed: {reason(done.stderr)}.")
    return done
