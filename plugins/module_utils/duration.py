# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations in Vault's format. In a file of its own, so that a filter does not load Vault's client."""

from __future__ import annotations

import re

UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: str | int) -> int:
    """Return a duration (`768h`, `90m`, `1h30m`, `32d`, `60` or 60) in seconds. Raises ValueError for anything else."""
    text = str(duration).strip()
    if re.fullmatch(r"\d+", text):
        return int(text)
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise ValueError(f"{text!r} is not a duration; write it like 768h, 90m or 60s.")
    return sum(int(number) * UNIT_SECONDS[letter] for number, letter in re.findall(r"(\d+)([dhms])", text))
