"""Says "not ready" for a moment before the listener closes, so that a proxy stops sending requests here."""

import asyncio
import logging
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)


class Drain:
    """Whether the process is about to stop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begun = False

    def watch(self) -> None:
        """Put ourselves before the server's SIGTERM handler; a second SIGTERM goes straight to it.

        Call it in the event loop, once the server has installed its handler.
        """
        server_handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(server_handler):
            return
        loop = asyncio.get_running_loop()

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            if self.begun:
                server_handler(number, frame)
                return
            self.begun = True
            loop.call_soon_threadsafe(self._begin, loop, lambda: server_handler(number, None))

        signal.signal(signal.SIGTERM, on_sigterm)

    def _begin(self, loop: asyncio.AbstractEventLoop, stop: object) -> None:
        log.info("stopping in %g s; not ready from now on", self._seconds)
        loop.call_later(self._seconds, stop)
