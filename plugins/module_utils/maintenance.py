# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flag file of the maintenance state, and who may switch it.

The file has an owner: the operator, or a verb that needs the site to be closed while it runs. A verb clears its own
flag only, so that it never opens a site that an operator closed.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

OPERATOR = "operator"


class Flag(t.NamedTuple):
    """The content of the flag file."""

    owner: str
    by: str
    reason: str
    since: str


#: The content of a file that something else than this project wrote.
UNKNOWN = Flag(OPERATOR, "", "", "")


def read(path: Path) -> Flag | None:
    """The flag, or None if maintenance is off. A file that cannot be read counts as an operator's."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        return Flag(*(str(found[name]) for name in Flag._fields))
    except (ValueError, KeyError, TypeError):
        return UNKNOWN


def content(flag: Flag) -> str:
    return json.dumps(flag._asdict()) + "\n"


def switched_on(flag: Flag | None, wanted: Flag) -> Flag:
    """The flag after a request to switch maintenance on. Its time stays that of the first request."""
    if flag is None:
        return wanted
    since = flag.since or wanted.since
    if wanted.owner == OPERATOR:
        if flag.owner != OPERATOR:
            return wanted._replace(since=since, reason=wanted.reason or flag.reason)
        changed = wanted.reason not in ("", flag.reason) or flag == UNKNOWN
        return wanted._replace(since=since) if changed else flag
    return wanted._replace(since=since) if flag.owner == wanted.owner else flag


def switched_off(flag: Flag | None, owner: str) -> Flag | None:
    """The flag after a request to switch maintenance off: an operator's request clears any flag, a verb's its own."""
    return flag if flag and owner not in (OPERATOR, flag.owner) else None
