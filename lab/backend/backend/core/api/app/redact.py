"""Removes secrets from every text that leaves the process."""

import json
import re
import threading
from urllib.parse import quote

REDACTED = "[redacted]"
# Shorter values would blank out ordinary words; preflight refuses such secrets anyway.
MINIMUM_LENGTH = 4
# Secret even if they were not registered: tokens of Vault and OpenBao, passwords inside URLs, JSON web tokens.
SHAPES = (
    (re.compile(r"\b(?:hv[sbr]|s|b|r)\.[A-Za-z0-9_-]{20,}"), REDACTED),
    (re.compile(r"(?<=://)[^/@\s]*@"), REDACTED + "@"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), REDACTED),
)


class Redactor:
    """Replaces registered secrets, and texts shaped like one, by ``[redacted]``. Safe to use from several threads."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._spellings: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def register(self, name: str, value: str) -> None:
        """Keep ``value`` out of every text from now on.

        ``name`` is the value's place (not its content): a later value of the same name replaces the earlier one,
        so short-lived tokens do not pile up. Empty or very short values are ignored.
        """
        with self._lock:
            if self._values.get(name) == value:
                return
            self._values[name] = value
            spellings = {
                spelling
                for known in self._values.values()
                if len(known) >= MINIMUM_LENGTH
                for spelling in (known, quote(known, safe=""), json.dumps(known)[1:-1], repr(known)[1:-1])
            }
            # The longest first: a secret may contain another.
            self._spellings = tuple(sorted(spellings, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return ``text`` without the secrets."""
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        for shape, replacement in SHAPES:
            text = shape.sub(replacement, text)
        return text
