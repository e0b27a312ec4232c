"""What of a service's log speaks against it: every CRITICAL line, and every ERROR that repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

LEVEL = re.compile(r"\b(CRITICAL|ERROR)\b")
# What differs between two messages of one kind.
VARIABLE = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.,+Z]+|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{12,}\b|0x[0-9a-f]+|\d+(\.\d+)?", re.IGNORECASE
)
# Messages about keys that this server does not have: optional providers, mail, object storage, invoices, payments.
ABSENT = re.compile(
    r"invoice.?ninja|\bS3\b|hetzner|brevo|mailjet|mailgun|stripe|revolut|polar|api.?keys?\b|secret[_ ]key|access[_ ]key"
    r"|credentials? (not|are not|missing)|not configured|no .{0,40}\bkey|provider",
    re.IGNORECASE,
)


def judged(lines: Iterable[str]) -> tuple[list[str], list[str]]:
    """The messages that speak against the service, and those about absent keys; each kind once, with its number."""
    kinds: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for line in lines:
        if found := LEVEL.search(line):
            kind = (found[1], " ".join(VARIABLE.sub("#", line[found.end() :]).split())[:160])
            kinds[kind] += 1
            example.setdefault(kind, " ".join(line[found.end() :].split())[:200])
    against, absent = [], []
    for kind, number in kinds.most_common():
        told = f"{number} x {kind[0]} {example[kind]}"
        if ABSENT.search(example[kind]):
            absent.append(told)
        elif kind[0] == "CRITICAL" or number > 1:
            against.append(told)
    return against, absent
