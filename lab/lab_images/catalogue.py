"""The rows of images.yml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lab_images import LAB, LabError

CATALOGUE = LAB / "images.yml"


@dataclass(frozen=True)
class Image:
    """One row of images.yml; its comments there say what each field means."""

    name: str
    recipe: str
    software: str
    version: str
    image: str | None = None
    parent: str | None = None
    context: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    cmd: list[str] = field(default_factory=list)
    shell: str = field(default="sh", repr=False)  # the hash of an image is made of what is shown
    always_built: bool = False
    stand_in: str | None = None


def load(path: Path = CATALOGUE) -> tuple[dict[str, Image], str]:
    """Rows by name, in file order, and the image that probes for upstream. Raises LabError for an impossible row."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows: dict[str, Image] = {}
    for name, row in data["images"].items():
        try:
            rows[name] = Image(name=name, recipe=row.pop("recipe", name), **row)
        except TypeError as error:
            raise LabError(f"{path}: image {name}: {error}") from None
    for row in rows.values():
        if row.parent and row.parent not in rows:
            raise LabError(f"{path}: image {row.name}: parent {row.parent} has no row")
    return rows, data["probe"]


def wanted(names: list[str], rows: dict[str, Image]) -> list[Image]:
    """The rows of these names (default: all) and their parents, in file order. Raises LabError for an unknown name."""
    chosen = set(names or rows)
    if unknown := chosen - set(rows):
        raise LabError(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    queue = list(chosen)
    while queue:
        parent = rows[queue.pop()].parent
        if parent and parent not in chosen:
            chosen.add(parent)
            queue.append(parent)
    return [row for name, row in rows.items() if name in chosen]
