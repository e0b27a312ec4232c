# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and sizes as an operator reads them at a glance."""

from __future__ import annotations

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float | None) -> str:
    """The largest unit of which there are two, or the smallest: 36 h, 3 d, 90 s; "-" if it is not known."""
    if seconds is None:
        return "-"
    for name, size in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def mebibytes(count: float) -> str:
    return f"{count / 2**20:.0f}"


def gigabytes(count: float) -> str:
    return f"{count / 10**9:.0f} GB"
