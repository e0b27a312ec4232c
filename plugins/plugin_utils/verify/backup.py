# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backups of a live server: how old the last good one is, whether the last one failed, and what of it is proven."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

LATE_HOURS = 26  # a day, and two hours for which a backup waits for a run
REMEDY = (
    "`backup.yml` makes one now and shows what it does; `sudo journalctl -u openmates-backup` on the host has the last"
)
LATE_PROOF_HOURS = 30  # it follows the backup, and takes a while
AGAIN = (
    "`backup.yml -e prove=true` proves one now and shows what it finds; `sudo journalctl -u openmates-backup-proof` on"
    " the host has the last"
)


class Backups:
    """The answer of `openmates-backup status`, as returned by the command task. Its output may be invalid."""

    def __init__(self, seen: Mapping) -> None:
        result = (seen.get("backup") or {}) if not seen.get("dry_run") else {}
        self.wanted = bool(result) and not result.get("skipped")
        self.error, found = "", {}
        try:
            found = json.loads(result.get("stdout") or "")
        except ValueError:
            self.error = str(result.get("stdout") or result.get("stderr") or result.get("msg") or "no result").strip()
        self.problem = str(found.get("problem") or "")
        self.proof = found.get("proof") or {}
        self.hours = _hours(found.get("age"))  # of the last good one; None: there is none
        self.waiting = _hours(found.get("configured")) or 0  # since when there are to be backups
        self.snapshot = str((found.get("last_success") or {}).get("snapshot") or "")[:8]


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def problems_of_backup(seen: Mapping) -> Iterator[str]:
    backups = Backups(seen)
    if not backups.wanted:
        return
    last = "There is no good backup" if backups.hours is None else f"The last good backup is {backups.hours:.0f} h old"
    if backups.error:
        yield f"openmates-backup failed on the host: {backups.error}. site.yml --tags backup writes it"
    elif backups.problem:
        yield f"The last backup failed: {backups.problem} {last}. {REMEDY}"
    elif (backups.waiting if backups.hours is None else backups.hours) > LATE_HOURS:
        yield f"{last}, and there should be one each day. {REMEDY}"
    yield from _problems_of_proof(backups)


def _problems_of_proof(backups: Backups) -> Iterator[str]:
    """What the server found when it restored its newest snapshot for itself."""
    age = _hours(backups.proof.get("age"))
    if backups.error:
        return
    if backups.proof.get("problem"):
        yield f"The last proof of a backup failed: {backups.proof['problem']} {_proven(backups.proof)}. {AGAIN}"
    elif (backups.waiting if age is None else age) > LATE_PROOF_HOURS:
        last = "No backup was proven yet" if age is None else f"The last proof of a backup is {age:.0f} h old"
        yield f"{last}, and there should be one each day. {AGAIN}"


def _proven(proof: Mapping) -> str:
    """When everything was proven last."""
    good = proof.get("last_proven")
    return f"Last proven restore: {good['time']}" if good else "No restore was ever proven"


def lines_of_backup(seen: Mapping) -> Iterator[str]:
    backups = Backups(seen)
    if not backups.wanted:
        return
    yield ""
    if backups.hours is None:
        yield f"Backups: none yet{', the last one FAILED' if backups.problem or backups.error else ''}"
    else:
        failed = ", a later one FAILED" if backups.problem else ""
        yield f"Backups: the last good one is {backups.hours:.1f} h old, snapshot {backups.snapshot}{failed}"
    if proof := backups.proof:
        hours = f"{(_hours(proof.get('age')) or 0):.1f} h ago"
        if proof.get("problem"):
            yield f"Last proven restore: PROBLEM {hours}, listed below"
        elif proof.get("unproven"):
            yield f"Last proven restore: UNPROVEN in part, {hours}: {proof['unproven']}"
        else:
            yield f"Last proven restore: {hours}"
    else:
        yield "Last proven restore: none yet"
