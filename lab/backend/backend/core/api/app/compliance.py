"""The logs that the law wants kept: one for accounts (two years), one for money (ten). Only the standard library."""

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from pathlib import Path

AUDIT = "audit-compliance.log"
FINANCIAL = "financial-compliance.log"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(), "level": record.levelname}
        return json.dumps(line | (record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}))


def set_up(directory: Path) -> None:
    """Open both files. Raises OSError, and with it ends the start of the api, where they cannot be written."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, file in (("compliance.audit", AUDIT), ("compliance.financial", FINANCIAL)):
        handler = logging.handlers.TimedRotatingFileHandler(directory / file, when="D", backupCount=0, encoding="utf-8")
        handler.setFormatter(_JsonFormatter())
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)


def audit(event: str, user: str | None, **details: object) -> None:
    """Note an event of an account."""
    logging.getLogger("compliance.audit").info({"event_type": event, "user_id": user or "anonymous", **details})
