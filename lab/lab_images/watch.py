"""Shows what is being made while nothing else is printed: some images take minutes."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

EVERY = 15.0  # seconds
#: A line in which Docker's builder begins a step, e.g. `Step 4/9 : RUN make`.
_STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)", re.MULTILINE)
_WIDTH = 60


def step(log: str) -> str:
    """Which step of a build its log ends in."""
    found = _STEP.findall(log)
    if not found:
        return ""
    number, count, command = found[-1]
    command = " ".join(command.split())
    return f"step {number} of {count}, {command[:_WIDTH]}{'...' if len(command) > _WIDTH else ''}"


class Watch:
    """Prints a line every few seconds for each image that is being made."""

    def __init__(self, every: float = EVERY) -> None:
        self.every = every
        self.made: dict[str, tuple[str, Path | None, float]] = {}

    @contextlib.contextmanager
    def doing(self, name: str, what: str, log: Path | None = None) -> Iterator[None]:
        """Show this image while the block runs: what is done, and the step that the log ends in."""
        self.made[name] = (what, log, time.monotonic())
        try:
            yield
        finally:
            del self.made[name]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def lines(self) -> list[str]:
        lines = []
        for name, (what, log, began) in self.made.copy().items():
            text = log.read_text(encoding="utf-8", errors="replace") if log and log.is_file() else ""
            parts = [what, step(text), f"{time.monotonic() - began:.0f} s"]
            lines.append(f"{name}: {', '.join(filter(None, parts))}")
        return lines

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(self.every):
            for line in self.lines():
                print(line, flush=True)
