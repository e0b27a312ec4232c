"""Links between the project's Markdown files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)[^`\n]+\1")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
ELSEWHERE = re.compile(r"^(https?:|mailto:)")
#: What lies at the top of a checkout and is no part of the project, or the project once more.
LEFT_OUT = {"collections", "prod", "dev"}


def documents(root: Path) -> list[Path]:
    """The Markdown files of the project, as paths below its root."""
    tops = [path for path in root.iterdir() if path.name not in LEFT_OUT and not path.name.startswith(".")]
    found = [path for top in tops for path in (top.rglob("*.md") if top.is_dir() else [top]) if path.suffix == ".md"]
    return sorted(path.relative_to(root) for path in found)


def masked(text: str, inline: bool = True) -> str:
    """The text with code replaced by spaces, so that places stay the same."""
    for pattern in (FENCE, CODE) if inline else (FENCE,):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return text


def links(text: str) -> Iterator[re.Match]:
    """Each link that leads to another file or place of the project; group 1 is its target."""
    return (found for found in LINK.finditer(masked(text)) if not ELSEWHERE.match(found[1]))


def replaced(text: str, change: Callable[[str], str]) -> str:
    """The text with the target of each such link changed."""
    for found in reversed(list(links(text))):
        text = text[: found.start(1)] + change(found[1]) + text[found.end(1) :]
    return text


def anchors(text: str) -> set[str]:
    """The names by which a link can lead to a heading."""
    names: set[str] = set()
    for heading in HEADING.findall(masked(text, inline=False)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = sum(1 for name in names if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", name))
        names.add(f"{slug}-{count}" if count else slug)
    return names


def broken(root: Path) -> list[str]:
    """The links that lead nowhere, each as `file: target`."""
    return [f"{name}: {target}" for name in documents(root) for target in _broken_in(root, name)]


def _broken_in(root: Path, name: Path) -> Iterator[str]:
    return (found[1] for found in links((root / name).read_text()) if not _leads_somewhere(root, name, found[1]))


def _leads_somewhere(root: Path, name: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (root / name).parent / path if path else root / name
    if path.startswith("/") or not file.resolve().is_relative_to(root.resolve()) or not file.exists():
        return False
    return not anchor or (file.suffix == ".md" and anchor in anchors(file.read_text()))
