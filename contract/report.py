"""The result as text: what would break first, then what is new, then what is only worth knowing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from contract.accepted import Acceptance
from contract.findings import LEVELS, Finding

_TITLES = {"breaks": "Would break", "new": "New: needs a decision", "info": "For information"}


def lines(
    title: str,
    standing: list[Finding],
    accepted: list[tuple[Finding, Acceptance]],
    unused: list[Acceptance],
    *,
    since: str = "",
    details: bool = False,
) -> Iterator[str]:
    yield title
    for level in LEVELS:
        found = [finding for finding in standing if finding.level == level]
        yield f"\n{_TITLES[level]} ({len(found)}){f', not so in {since}' if since else ''}"
        for finding in found:
            if not finding.group:
                yield from _finding(finding)
        for group in dict.fromkeys(finding.group for finding in found if finding.group):
            names = [finding.problem for finding in found if finding.group == group]
            yield from _wrapped(f"{len(names)} {group}: {', '.join(names)}", "  ")
    yield f"\nAccepted with a reason ({len(accepted)}){'' if details or not accepted else '; --accepted lists them'}"
    for finding, entry in accepted if details else ():
        yield from _finding(finding)
        yield from _wrapped(f"accepted: {entry.reason}", "      ")
    if unused and not since:
        yield f"\nAccepted, but not found any more ({len(unused)}): take out of contract/accepted.yml"
        for entry in unused:
            yield from _wrapped(f"{entry.finding}: {entry.reason}", "  ")


def _finding(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"[{finding.identity}] {finding.problem}", "  ")
    if finding.upstream:
        yield from _wrapped(f"OpenMates: {finding.upstream}", "      ")
    if finding.here:
        yield from _wrapped(f"here: {finding.here}", "      ")


def _wrapped(text: str, indent: str) -> list[str]:
    indents = {"initial_indent": indent, "subsequent_indent": f"{indent}  "}
    return textwrap.wrap(text, 120, **indents, break_long_words=False, break_on_hyphens=False)
