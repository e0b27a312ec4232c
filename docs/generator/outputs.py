"""All generated files, and which of them are stale."""

from __future__ import annotations

from pathlib import Path

from generator import hardening, matrix, readme, settings

COMMAND = "docs/generate.py"


def outputs(root: Path) -> dict[Path, str]:
    """The text of each generated file, by its path in the project."""
    return {
        Path("docs/settings.md"): settings.page(root),
        Path("docs/hardening.md"): hardening.page(root),
        matrix.PAGE: matrix.page(root),
        **readme.readmes(root),
    }


def stale(root: Path) -> list[str]:
    """The generated files that are not what the data says."""
    return [str(path) for path, text in outputs(root).items() if not is_current(root / path, text)]


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def write(root: Path) -> list[str]:
    """Write the stale files, and name them."""
    texts = outputs(root)
    names = stale(root)
    for name in names:
        (root / name).write_text(texts[Path(name)])
    return names
