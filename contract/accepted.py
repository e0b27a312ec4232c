"""Differences that were looked at and are meant: accepted.yml, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from contract.findings import ContractError, Finding

FILE = Path(__file__).with_name("accepted.yml")


@dataclass(frozen=True)
class Acceptance:
    finding: str  # an identity, with * for a part of it
    reason: str


def load(path: Path = FILE) -> list[Acceptance]:
    entries = yaml.safe_load(path.read_text()) or []
    acceptances = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or set(entry) != {"finding", "reason"} or not all(entry.values()):
            raise ContractError(f"{path}: entry {number} needs just `finding` and `reason`, both filled in.")
        acceptances.append(Acceptance(str(entry["finding"]), " ".join(str(entry["reason"]).split())))
    names = [acceptance.finding for acceptance in acceptances]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ContractError(f"{path}: accepted twice: {', '.join(twice)}. Keep one of each.")
    return acceptances


def sort_out(
    findings: Iterable[Finding], acceptances: list[Acceptance]
) -> tuple[list[Finding], list[tuple[Finding, Acceptance]], list[Acceptance]]:
    """What stands, what is accepted and by which entry, and the entries that accept nothing."""
    standing, accepted = [], []
    for finding in findings:
        entry = next((entry for entry in acceptances if fnmatchcase(finding.identity, entry.finding)), None)
        if entry:
            accepted.append((finding, entry))
        else:
            standing.append(finding)
    used = {entry for _, entry in accepted}
    return standing, accepted, [entry for entry in acceptances if entry not in used]
