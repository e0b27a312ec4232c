"""Shows which tests run while pytest prints nothing else: some wait for minutes."""

from __future__ import annotations

import os
import threading
import time

import pytest

EVERY = 15.0  # seconds


class Progress:
    """A pytest plugin that writes a line to standard output for each test that has run for so long."""

    def __init__(self, every: float = EVERY) -> None:
        self.every = every
        self.began: dict[str, float] = {}
        self.shown: dict[str, float] = {}
        self.ended = threading.Event()
        self.output = os.dup(1)  # a test's own standard output is captured, this one is not

    def pytest_sessionstart(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def pytest_sessionfinish(self) -> None:
        self.ended.set()

    # With xdist these are called in the controlling process, for the tests of every worker.
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.began[nodeid] = self.shown[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.began.pop(nodeid, None)
        self.shown.pop(nodeid, None)

    def due(self, now: float) -> list[str]:
        """A line for each test about which nothing was shown for so long."""
        lines = []
        for nodeid, shown in self.shown.copy().items():
            if now - shown >= self.every and nodeid in self.began:
                self.shown[nodeid] = now
                lines.append(f"... {nodeid}, {now - self.began[nodeid]:.0f} s")
        return lines

    def _watch(self) -> None:
        while not self.ended.wait(min(1.0, self.every)):
            for line in self.due(time.monotonic()):
                os.write(self.output, f"\n{line}\n".encode())


def register(config: pytest.Config) -> None:
    """Add the plugin, once, and not in xdist's workers, whose standard output is a protocol."""
    if not hasattr(config, "workerinput") and not config.pluginmanager.has_plugin("progress"):
        config.pluginmanager.register(Progress(float(os.environ.get("PYTEST_PROGRESS_EVERY", EVERY))), "progress")
