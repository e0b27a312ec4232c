"""How lab/images.py makes the lab's container images."""

from pathlib import Path

LAB = Path(__file__).resolve().parents[1]


class LabError(Exception):
    """A step that cannot go on. The text says what failed and where to look."""
