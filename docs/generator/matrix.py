"""The table of the matrix of faults in docs/outages.md, from the rows of docs/proofs.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from generator.table import table

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "tests/faults"))
from cells import FAULTS, NOT_APPLICABLE, Cell, catalogue  # noqa: E402

PAGE, PROOFS = Path("docs/outages.md"), Path("docs/proofs.md")
BEGIN, END = "<!-- BEGIN matrix: written by docs/generate.py -->", "<!-- END matrix -->"
ROW = re.compile(r"\| matrix: (?P<cell>[a-z-]+), \S+ \| (?P<result>\w+) \|(?:[^|]*\|){4} (?P<detail>[^|]*) \|")
WELL = re.compile(r"well again after (\d+) s")
ALERT = re.compile(r"(\w+)[\w :/.-]* after (\d+) of \d+ s")
SILENCE = re.compile(r"the watchdog's requests stopped")
FAILED = re.compile(r"(\d+) of \d+ requests failed, in (\d+) s")


def page(root: Path) -> str:
    """The page with its table."""
    before, _, rest = (root / PAGE).read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{matrix((root / PROOFS).read_text())}\n\n{END}{after}"


def matrix(proofs: str) -> str:
    """The table, and below it why some cells do not apply."""
    seen = {found["cell"]: shortly(found["result"], found["detail"]) for found in ROW.finditer(proofs)}
    reasons = sorted(set(NOT_APPLICABLE.values()))

    def text(cell: Cell) -> str:
        if cell.not_applicable:
            return f"not applicable ({reasons.index(cell.not_applicable) + 1})"
        return seen.get(cell.name, "not seen yet")

    rows = [[service, *(text(Cell(service, fault)) for fault in FAULTS)] for service in catalogue()]
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return f"{table(['service', *(fault.replace('-', ' ') for fault in FAULTS)], rows)}\n\n{notes}"


def shortly(result: str, detail: str) -> str:
    """What was seen of a cell, in a few words."""
    words = ["**failed**"] if result == "failed" else []
    words += [f"{alert[1]} {alert[2]} s"] if (alert := ALERT.search(detail)) else []
    words += ["watchdog"] if SILENCE.search(detail) else []
    words += [f"well {well[1]} s"] if (well := WELL.search(detail)) else []
    words += [f"{failed[1]} requests in {failed[2]} s"] if (failed := FAILED.search(detail)) else []
    return ", ".join(words)
