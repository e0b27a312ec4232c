# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TCP ports that programs on this host accept connections on."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import struct
import typing as t
from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def found(proc: Path) -> list[dict[str, t.Any]]:
    """Each port with its address, program and process, by the tables in ``proc``, which is /proc."""
    sockets = {inode: place for table in ("tcp", "tcp6") for inode, place in _listening(proc / "net" / table)}
    owners = _owners(proc, set(sockets)) if sockets else {}
    return [
        {"port": port, "address": address, "program": program, "pid": pid}
        for inode, (address, port) in sockets.items()
        for program, pid in [owners.get(inode, ("", 0))]
    ]


def _listening(table: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """Inode, address and port of each listening socket of a table of the kernel."""
    for line in table.read_text().splitlines()[1:] if table.exists() else []:
        fields = line.split()
        if fields[3] == LISTEN:
            address, _, port = fields[1].partition(":")
            yield fields[9], (_address(address), int(port, 16))


def _address(text: str) -> str:
    """An address as text, from words of 32 bits in the order of the machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _owners(proc: Path, inodes: set[str]) -> dict[str, tuple[str, int]]:
    """The program and process that holds each socket; of several, such as a parent and its child, the oldest."""
    owners: dict[str, tuple[str, int]] = {}
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        held = inodes.intersection(_sockets(proc / str(pid) / "fd")) - set(owners)
        program = ""
        if held:
            with contextlib.suppress(OSError):  # it has ended
                program = (proc / str(pid) / "comm").read_text().strip()
        owners |= dict.fromkeys(held, (program, pid))
    return owners


def _sockets(folder: Path) -> Iterator[str]:
    """The inodes of the sockets that a process has open."""
    with contextlib.suppress(OSError):  # it has ended
        for link in os.scandir(folder):
            with contextlib.suppress(OSError):  # it was closed
                # Not pathlib, which takes several times as long for thousands of links.
                if match := _SOCKET.fullmatch(os.readlink(link.path)):  # noqa: PTH115
                    yield match[1]
