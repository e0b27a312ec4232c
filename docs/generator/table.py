"""Tables in Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

LONGEST = 60  # characters of a value in a table
MARKUP = re.compile(r"\b(RV|[BCEIMOPUV])\(((?:[^()]|\([^()]*\))+)\)")


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table without the newline at its end."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join("|" + "|".join(line) + "|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in lines)


def cell(text: object) -> str:
    """One line of text, in which no character ends the cell."""
    return re.sub(r"\s+", " ", str(text)).strip().replace("|", "\\|")


def code(value: object) -> str:
    return f"`{value}`"


def markup(text: str) -> str:
    """Ansible's markup as Markdown."""
    return MARKUP.sub(lambda found: f"**{found[2]}**" if found[1] in "BI" else code(found[2]), text)


def codes(values: Iterable[object]) -> str:
    return ", ".join(code(value) for value in values)


def default(value: object, elsewhere: str) -> str:
    """A variable's default; `elsewhere` is the link to a default that is too long for a table."""
    text = value if isinstance(value, str) and value else json.dumps(value)
    derived = "{{" in text or "{%" in text
    if derived and isinstance(value, str):
        return "derived from others"
    return f"[see there]({elsewhere})" if derived or len(text) > LONGEST or "\n" in text else code(text)
