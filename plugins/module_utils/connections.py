# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a service is refused by another, seen from the connections that its container has."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

#: States in /proc/net/tcp. CLOSE_WAIT: the other side has closed it, and this one has not tried again.
ESTABLISHED, TIME_WAIT, CLOSE_WAIT = "01", "06", "08"


def refused(table: str, address: str, port: int) -> bool | None:
    """From the text of /proc/PID/net/tcp, whether that address refuses this side; None if it has not tried.

    A client whose password is refused closes its connection and tries again, within the minute for which the kernel
    remembers one that this side has closed. A network that is cut off, or a peer that hangs, leaves other states."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    peer = f"{number:08X}:{port:04X}"
    states = {words[3] for words in map(str.split, table.splitlines()) if len(words) > 3 and words[2] == peer}
    if ESTABLISHED in states:
        return False
    return True if TIME_WAIT in states and CLOSE_WAIT not in states else None


def worst(found: Iterable[bool | None]) -> bool | None:
    """What counts for several containers of one service."""
    known = {one for one in found if one is not None}
    return max(known, default=None)
