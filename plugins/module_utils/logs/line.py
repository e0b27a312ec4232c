# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line of a service's log, and what is asked for."""

from __future__ import annotations

import typing as t


class Line(t.NamedTuple):
    """When it was written, in nanoseconds since 1970, the first 12 digits of its container's id, and its text."""

    time: int
    container: str
    text: str


class Wanted(t.NamedTuple):
    """The lines of a service since a time, those that match a regular expression, and of these the newest."""

    service: str
    since: float
    grep: str
    limit: int


class NotThere(Exception):
    """Why a source does not have the lines."""
