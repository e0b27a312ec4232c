"""Problems in a service's log: every CRITICAL line, and every ERROR that repeats."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable

LEVEL = re.compile(r"\b(CRITICAL|ERROR)\b")
# Parts that differ between messages of one kind.
VARIABLE = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.,+Z]+|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{12,}\b|0x[0-9a-f]+|\d+(\.\d+)?", re.IGNORECASE
)
# Messages about keys that this server does not have: providers, mail, object storage, invoices, payments.
ABSENT = re.compile(
    r"invoice.?ninja|bank integration|\bS3\b|hetzner|brevo|mailjet|stripe|revolut|vapid.*404|kv/data/providers/"
    r"|(api|secret|access|production)[ _]?(secret[ _])?key|credentials? (not|are not|missing)|not configured"
    r"|client (is )?not (initialized|available)|client initialization failed",
    re.IGNORECASE,
)
# Messages with a cause outside of this project, and the cause.
OUTSIDE = {
    "the lab reaches no third party": re.compile(r"Name or service not known|Temporary failure in name resolution"),
    "OpenMates: a skill or app that cannot be imported": re.compile(r"books\.translate|FAILED to load: \['3d'\]"),
    "the image: Debian's Python has math built in": re.compile(r"math\.calculate"),
    "OpenMates: a worker's cache client of an earlier event loop": re.compile(r"Event loop is closed"),
}


@dataclasses.dataclass
class Judgement:
    """Messages by kind, each with its count."""

    against: list[str]
    absent: list[str]
    outside: dict[str, int]


def parsed(line: str) -> tuple[str, str, str] | None:
    """Level, message and everything else of an error line, written as JSON or as text; None for any other line."""
    start = line.find("{")
    if start >= 0:
        try:
            entry = json.loads(line[start:])
            level = str(entry["level"])
            text = str(entry["message"])
            return (level, text, text + str(entry.get("exc_info", ""))) if LEVEL.fullmatch(level) else None
        except (ValueError, KeyError, TypeError):
            pass
    found = LEVEL.search(line)
    return (found[1], line[found.end() :], line[found.end() :]) if found else None


def judged(lines: Iterable[str]) -> Judgement:
    """The evaluation of a service's log."""
    kinds: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for line in lines:
        if found := parsed(line):
            level, message, everything = found
            kind = (level, " ".join(VARIABLE.sub("#", message).split())[:160])
            kinds[kind] += 1
            example.setdefault(kind, (" ".join(message.split())[:200], everything))
    result = Judgement([], [], {})
    for kind, number in kinds.most_common():
        message, everything = example[kind]
        summary = f"{number} x {kind[0]} {message}"
        reason = next((reason for reason, pattern in OUTSIDE.items() if pattern.search(everything)), "")
        if ABSENT.search(everything):
            result.absent.append(summary)
        elif reason:
            result.outside[reason] = result.outside.get(reason, 0) + number
        elif kind[0] == "CRITICAL" or number > 1:
            result.against.append(summary)
    return result
