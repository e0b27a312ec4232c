"""One JSON object a line on standard output, without secrets."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# They report every request or task: with a check every few seconds that would bury what matters.
CHATTY = (
    "httpx",
    "httpcore",
    "urllib3",
    "asyncio",
    "celery.app.trace",
    "celery.beat",
    "celery.worker.strategy",
)
# Uvicorn writes its own lines in its own format; main.py logs the requests itself.
REPLACED = ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "celery.redirected")
# Celery writes several chained tracebacks, twelve thousand characters, for one lost connection.
MAXIMUM_MESSAGE = 500  # characters, from the beginning
MAXIMUM_EXCEPTION = 2000  # characters, from the end: that is where the cause stands


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; ``extra={"fields": {...}}`` adds fields."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            # Cut only after redacting: a part of a secret would no longer be recognised.
            "message": self._redact(record.getMessage())[:MAXIMUM_MESSAGE],
        }
        for name, value in getattr(record, "fields", {}).items():
            line[name] = self._redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))[-MAXIMUM_EXCEPTION:]
        return json.dumps(line, ensure_ascii=False, default=lambda value: self._redact(str(value)))


def configure(level: str, redact: Callable[[str], str]) -> None:
    """Send every logger of this process through :class:`JsonFormatter` at ``level`` (a name such as ``INFO``)."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(redact))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in REPLACED:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").disabled = True
    quiet = logging.DEBUG if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
    for name in CHATTY:
        logging.getLogger(name).setLevel(quiet)
