"""Limits requests per client address, in this process's memory. Only the standard library."""

import threading
import time
from collections.abc import Callable

WINDOW = 60.0  # seconds
MAXIMUM_CLIENTS = 10_000


class RateLimiter:
    """Counts in windows of a minute that begin with a client's first request. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}  # (route, client) -> (end, requests)

    def allows(self, route: str, client: str, limit: int) -> bool:
        """Count a request and return whether it is within ``limit`` requests a minute."""
        now = self._clock()
        with self._lock:
            if len(self._windows) >= MAXIMUM_CLIENTS:
                self._windows = {key: window for key, window in self._windows.items() if window[0] > now}
            end, count = self._windows.get((route, client), (0.0, 0))
            if end <= now:
                end, count = now + WINDOW, 0
            self._windows[route, client] = (end, count + 1)
            return count < limit
