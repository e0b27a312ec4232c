"""Makes the website's search find parts of names: `ssh_port` and `port` as well as `openmates_ssh_port`."""

from __future__ import annotations

import json
import re
from pathlib import Path

NAME = re.compile(r"\w+(?:[./:-]\w+)+|\w+_\w+")
WORD = re.compile(r"[^\W_]{3,}")


def parts(text: str) -> list[str]:
    """The words that the names in a text consist of, and the names without their first word."""
    found: dict[str, None] = {}
    for name in NAME.findall(text):
        found |= dict.fromkeys([*WORD.findall(name), *re.split(r"[./:-]", name), name.partition("_")[2]])
    return [word for word in found if word]


def extend(index: Path) -> None:
    """Add to each section of MkDocs' search index the parts of its names, which lunr does not split."""
    data = json.loads(index.read_text())
    for section in data["docs"]:
        section["text"] += "\n" + " ".join(parts(f"{section['title']} {section['text']}"))
    index.write_text(json.dumps(data, separators=(",", ":")))
