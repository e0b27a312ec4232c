"""The record of `make bench` as a drawing: the ratios by commit, and below the roles of the last one."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, LINE, LEFT, RIGHT = 720, 18, 190, 60
MOST_COMMITS, LEAST_SECONDS = 20, 0.1


def _bars(title: str, rows: Sequence[tuple[str, float, str]], top: int) -> Iterator[str]:
    yield f'<text x="0" y="{top + 13}" font-weight="bold">{escape(title)}</text>'
    longest = max((value for _, value, _ in rows), default=1) or 1
    for number, (name, value, text) in enumerate(rows, start=1):
        y = top + number * LINE
        width = round(value / longest * (WIDTH - LEFT - RIGHT), 1)
        yield f'<text x="{LEFT - 6}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="{LEFT}" y="{y + 3}" width="{width}" height="{LINE - 6}" fill="#4878a8"/>'
        yield f'<text x="{LEFT + width + 5}" y="{y + 13}">{escape(text)}</text>'


def svg(record: Sequence[Mapping[str, t.Any]]) -> str:
    commits = [
        (f"{one['date']} {one['commit'][:10]}", one["site"]["ratio"], f"{one['site']['ratio']}")
        for one in record[-MOST_COMMITS:]
    ]
    roles = [
        (name, seconds, f"{seconds:.1f} s")
        for name, seconds in record[-1]["profile"]["roles"].items()
        if seconds >= LEAST_SECONDS
    ]
    second = (len(commits) + 2) * LINE
    height = second + (len(roles) + 1) * LINE + 6
    font = 'font-family="sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_bars("A run of site.yml that changes nothing: how many times a ping play", commits, 0),
        *_bars("Where the time of the last one goes, by role", roles, second),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
