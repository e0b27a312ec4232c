"""Stands in for the tracing of the real backend, which is on unless OTEL_TRACING_ENABLED says otherwise.

Spans go to a fixed host in batches. Where that host does not exist, each batch is a warning, and the end of the process
waits for one last batch: the listener is closed, the application has shut down, and the process goes on trying for half
a minute. Only the standard library.
"""

import atexit
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

ENDPOINT = "http://openobserve:5080/api/default/v1/traces"
EVERY = 12.0  # seconds
RETRIES = (1, 2, 4, 8, 16)  # seconds before each

log = logging.getLogger(__name__)


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Whether the backend traces: it does by default."""
    return environ.get("OTEL_TRACING_ENABLED", "true").lower() == "true"


def send(timeout: float = 30) -> bool:
    """Send a batch; return whether it arrived."""
    request = urllib.request.Request(ENDPOINT, data=b"", headers={"Content-Type": "application/x-protobuf"})
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 - a fixed http address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError as error:
        log.warning("Transient error %s encountered while exporting a span batch", error)
        return False


def flush(deliver: Callable[[], bool] = send, pause: Callable[[float], None] = time.sleep) -> bool:
    """Send the last batch, again and again if it must be; return whether it arrived."""
    if deliver():
        return True
    for seconds in RETRIES:
        pause(seconds)
        if deliver():
            return True
    log.error("Failed to export span batch")
    return False


def start(environ: Mapping[str, str]) -> None:
    """Trace from now on, if tracing is enabled."""
    if not is_enabled(environ):
        log.info("tracing is disabled")
        return

    def export() -> None:
        while True:
            time.sleep(EVERY)
            send()

    threading.Thread(target=export, name="tracing", daemon=True).start()
    atexit.register(flush)
