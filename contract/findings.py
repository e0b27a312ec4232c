"""What the comparison found, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass

BREAKS = "breaks"  # something of OpenMates would fail, lose data, call out or be exposed
NEW = "new"  # nothing fails, but there is a decision that this project has not taken
INFO = "info"
LEVELS = (BREAKS, NEW, INFO)


@dataclass(frozen=True)
class Finding:
    """One difference. `identity` is what accepted.yml names: concern/subject[/detail]."""

    level: str
    identity: str
    problem: str
    upstream: str = ""  # evidence: where OpenMates says so
    here: str = ""  # the file and the variable of this project that decide it
    group: str = ""  # findings of a group are reported as one, `problem` being just a name


class ContractError(Exception):
    """The comparison cannot be made; the message says why and what to do."""
