# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host resolves names: its name servers, the addresses of names, and which authorities may certify them.

Standard library only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import struct
import subprocess
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFIGURATION = Path("/etc/resolv.conf")
#: The upstream servers of systemd-resolved. Docker reads this file where the other one names nothing but resolved.
UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
STUB = ["127.0.0.53"]
LOOKUP_SECONDS = 30
QUERY_SECONDS = 2
CAA, CLASS_IN = 257, 1
RECURSION_DESIRED, TRUNCATED = 0x0100, 0x0200
NAME = re.compile(r"[A-Za-z0-9._-]+")


class NotAnswered(Exception):
    """No name server answered a query."""


def servers(configuration: Path = CONFIGURATION) -> list[str]:
    """The name servers of a resolv.conf, with their zone if they have one."""
    text = configuration.read_text(errors="replace") if configuration.is_file() else ""
    found = [line.split()[1] for line in text.splitlines() if re.match(r"\s*nameserver\s+\S", line)]
    return [server for server in found if _is_address(server)]


def servers_of_containers(configuration: Path = CONFIGURATION, upstream: Path = UPSTREAM) -> list[str]:
    """The name servers that Docker passes queries of containers to, unless daemon.json names others."""
    own = servers(configuration)
    return servers(upstream) if own == STUB and upstream.is_file() else own


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def addresses(names: t.Iterable[str]) -> dict[str, list[str] | None]:
    """The addresses of each name by DNS, both families; None if the lookup failed."""
    wanted = [name for name in dict.fromkeys(names) if NAME.fullmatch(name)]
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted)) as pool:
        return dict(zip(wanted, pool.map(_addresses, wanted), strict=True))


def _addresses(name: str) -> list[str] | None:
    # Without /etc/hosts, where a server is often 127.0.1.1, and with both families even if the host has only one.
    command = ["getent", "--no-addrconfig", "--service=hosts:dns", "ahosts", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOKUP_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode not in (0, 2):  # found, not found; others are failures of the lookup
        return None
    return list(dict.fromkeys(line.split()[0] for line in done.stdout.splitlines() if line.strip()))


def authorities(names: t.Iterable[str], asked: list[str]) -> dict[str, list[dict[str, t.Any]] | None]:
    """The CAA records that apply to each name: its own, or those of the nearest domain above. None: not known."""
    found: dict[str, list[dict[str, t.Any]] | None] = {}
    for name in dict.fromkeys(names):
        labels = name.strip(".").split(".")
        try:
            domains = (".".join(labels[start:]) for start in range(len(labels)))
            found[name] = next(filter(None, (query_caa(domain, asked) for domain in domains)), [])
        except NotAnswered:
            found[name] = None
    return found


def query_caa(domain: str, asked: list[str]) -> list[dict[str, t.Any]]:
    """The CAA records of a domain itself. Raises NotAnswered."""
    for server in asked[:3]:
        with contextlib.suppress(OSError, ValueError, struct.error, IndexError, UnicodeError):
            return _caa_records(_ask(server, _question(domain)))
    raise NotAnswered(domain)


def _question(domain: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in domain.encode("ascii").split(b"."))
    return (
        os.urandom(2)
        + struct.pack("!5H", RECURSION_DESIRED, 1, 0, 0, 0)
        + labels
        + struct.pack("!BHH", 0, CAA, CLASS_IN)
    )


def _ask(server: str, question: bytes) -> bytes:
    """The answer of one server, over TCP if it is too long for a datagram."""
    family, _, _, _, place = socket.getaddrinfo(server, 53, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.settimeout(QUERY_SECONDS)
        channel.connect(place)
        channel.send(question)
        answer = channel.recv(4096)
    if answer[:2] == question[:2] and struct.unpack_from("!H", answer, 2)[0] & TRUNCATED:
        with socket.create_connection(place[:2], QUERY_SECONDS) as channel, channel.makefile("rb") as stream:
            channel.sendall(struct.pack("!H", len(question)) + question)
            answer = stream.read(struct.unpack("!H", stream.read(2))[0])
    if answer[:2] != question[:2]:
        raise ValueError("an answer to another question")
    return answer


def _caa_records(answer: bytes) -> list[dict[str, t.Any]]:
    """The records of an answer, none if the name does not exist. Raises ValueError if the server could not answer."""
    _, flags, questions, count = struct.unpack_from("!4H", answer)
    if flags & 0xF not in (0, 3):
        raise ValueError("the server failed")
    place = 12
    for _ in range(questions):
        place = _after_name(answer, place) + 4
    records = []
    for _ in range(count):
        place = _after_name(answer, place)
        kind, _, _, length = struct.unpack_from("!HHIH", answer, place)
        data = answer[place + 10 : place + 10 + length]
        place += 10 + length
        if kind == CAA:
            end = 2 + data[1]
            records.append(
                {
                    "critical": bool(data[0] & 128),
                    "tag": data[2:end].decode("ascii", "replace").lower(),
                    "value": data[end:].decode("ascii", "replace"),
                }
            )
    return records


def _after_name(message: bytes, place: int) -> int:
    """Where a name in a message ends, which may be a reference to an earlier one."""
    while length := message[place]:
        if length >= 0xC0:
            return place + 2
        place += 1 + length
    return place + 1
