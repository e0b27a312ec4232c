# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which TCP ports of an address accept connections, found without privileges."""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import random
import resource
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable

NO_WAY = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN)
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)
# A router refused. It may only have been slow to find the host, so these ports are tried again.
TURNED_AWAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT)
SPARE_FILES = 64
FIRST_BURST = 256
WAKE_FOR = 32  # connections: waking up for each one would cost more than it sends
MAX_PATIENT_PORTS = 64
SYN_AGAIN_SECONDS = 1.0  # systems send a second SYN after this long (RFC 6298)
FULL = (errno.EMFILE, errno.ENFILE)
# Random ports that are tried first. No server has nearly all of them open, so if they are, something else answers.
CONTROLS = 32
MIN_CONTROLS = 8
MAX_SHARE_OF_OPEN_CONTROLS = 0.9


def parse_ports(text: str) -> list[int]:
    """The ports of a text such as ``1-1024,8000``, ascending. Raises ValueError with the invalid part."""
    ports: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise ValueError(f"{part!r} is not a port or range of ports") from None
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{part!r} is not within 1 to 65535")
        ports.update(range(low, high + 1))
    return sorted(ports)


def family_of(address: str) -> int:
    return socket.AF_INET6 if ipaddress.ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET


def no_way(address: str) -> str:
    """Why this machine cannot send to the address, or an empty string. It sends nothing, but looks up the route."""
    version = "IPv6" if family_of(address) == socket.AF_INET6 else "IPv4"
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        if error.errno in NO_WAY:
            return f"this machine has no {version} route to it ({os.strerror(error.errno)})"
        return f"this machine cannot send to it ({error})"
    return ""


def raise_file_limit(wanted: int) -> int:
    """Raise the soft limit of open files as far as needed and allowed; returns the possible number of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    target = wanted + SPARE_FILES if hard == unlimited else min(hard, wanted + SPARE_FILES)
    while soft != unlimited and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
        except (ValueError, OSError):
            target //= 2  # macOS allows less than the hard limit that it reports
    return wanted if soft == unlimited else max(16, min(wanted, soft - SPARE_FILES))


class Scanner:
    """Connects to ports of one address; its attributes collect the results."""

    def __init__(self, address: str, concurrency: int, deadline: float) -> None:
        self.target = (address, 0) if family_of(address) == socket.AF_INET else (address, 0, 0, 0)
        if "%" in address:  # a link-local address names its interface
            self.target = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][4]
        self.family = family_of(address)
        self.concurrency = concurrency
        self.files_ran_out = False
        self.ends = time.monotonic() + deadline
        self.open: set[int] = set()
        self.closed: set[int] = set()
        self.errors: dict[int, int] = {}
        self.fastest = math.inf

    def sweep(self, ports: Iterable[int], timeout: float) -> list[int]:
        """Try each port once, waiting at most ``timeout`` seconds for each; returns those still undecided."""
        waiting = deque(ports)
        undecided: list[int] = []
        flying: dict[int, tuple[socket.socket, int, float]] = {}
        oldest: deque[tuple[int, int, float]] = deque()  # all have the same timeout, so this is a queue
        began = time.monotonic()
        budget = float(FIRST_BURST)
        pace, last = self.concurrency / timeout, began
        with selectors.DefaultSelector() as selector:
            while waiting or flying:
                now = time.monotonic()
                if now > self.ends:
                    undecided.extend(waiting)
                    undecided.extend(entry[1] for entry in flying.values())
                    break
                budget = min(budget + (now - last) * pace, self.concurrency)
                last = now
                while waiting and budget >= 1 and len(flying) < self.concurrency:
                    port = waiting.popleft()
                    budget -= 1
                    connection = self._start(port)
                    if flying and self.errors.get(port) in FULL:  # no more at a time than are under way now
                        self.concurrency, self.files_ran_out = len(flying), True
                        del self.errors[port]
                        waiting.appendleft(port)
                        break
                    if connection is None:
                        if port not in self.open and port not in self.closed:
                            undecided.append(port)
                        else:
                            budget += 1  # an answer
                        continue
                    number = connection.fileno()
                    started = time.monotonic()
                    selector.register(number, selectors.EVENT_WRITE)
                    flying[number] = (connection, port, started)
                    oldest.append((number, port, started))
                looked = time.monotonic()
                may_send = bool(waiting) and len(flying) < self.concurrency
                pause = min(self._pause(oldest, timeout, may_send, budget, pace), max(0.0, self.ends - looked))
                for key, _events in selector.select(pause):
                    connection, port, started = flying.pop(key.fd)
                    selector.unregister(key.fd)
                    budget += 1
                    if not self._settle(connection, port, started):
                        undecided.append(port)
                    connection.close()
                # Overdue at the time of the poll, not now: this process may have been delayed after it.
                while oldest and (oldest[0][2] + timeout <= looked or oldest[0][0] not in flying):
                    number, port, started = oldest.popleft()
                    entry = flying.get(number)
                    if entry is None or entry[1:] != (port, started):
                        continue  # answered; the descriptor may belong to another port by now
                    selector.unregister(number)
                    del flying[number]
                    undecided.append(port)
                    entry[0].close()
            for connection, _port, _started in flying.values():
                connection.close()
        return undecided

    @staticmethod
    def _pause(oldest: deque, timeout: float, may_send: bool, budget: float, pace: float) -> float:
        """Seconds to wait for answers: until one is overdue, or until the pace allows more connections."""
        overdue = max(0.0, oldest[0][2] + timeout - time.monotonic()) if oldest else timeout
        return min(overdue, max(0.001, (WAKE_FOR - budget) / pace)) if may_send else overdue

    def _start(self, port: int) -> socket.socket | None:
        """Start a connection; None if it succeeded or failed at once."""
        try:
            connection = socket.socket(self.family, socket.SOCK_STREAM)
        except OSError as error:
            self.errors[port] = error.errno or 0
            return None
        connection.setblocking(False)
        code = connection.connect_ex((self.target[0], port, *self.target[2:]))
        if code == errno.EINPROGRESS:
            return connection
        self._record(port, code)
        connection.close()
        return None

    def _settle(self, connection: socket.socket, port: int, started: float) -> bool:
        """Record the result of a connection; False if it is inconclusive for the port."""
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ETIMEDOUT:
            return False
        if code == 0:
            self.fastest = min(self.fastest, time.monotonic() - started)
        return self._record(port, code)

    def _record(self, port: int, code: int) -> bool:
        """Record a connection's error code for the port; False if it is inconclusive."""
        if code == 0:
            self.open.add(port)
        elif code in REFUSED:
            self.closed.add(port)
        else:
            self.errors[port] = code
            return False
        self.errors.pop(port, None)
        return True


def scan(
    address: str, ports: list[int], expected: list[int], timeout: float, concurrency: int, deadline: float
) -> dict:
    """Every port of one address. Returns the entry that the module outside_probe documents."""
    began = time.monotonic()
    result = {
        "reachable": True,
        "reason": "",
        "reliable": True,
        "intercepted": False,
        "answered": False,
        "open": [],
        "closed": 0,
        "silent": 0,
    }
    reason = no_way(address)
    if reason:
        return {**result, "reachable": False, "reliable": False, "reason": reason, "errors": {}, "elapsed": 0.0}
    possible = raise_file_limit(concurrency)
    scanner = Scanner(address, possible, deadline)
    patient = max(3 * timeout, SYN_AGAIN_SECONDS + timeout)
    wanted = sorted(set(expected) & set(ports))
    left = set(scanner.sweep(wanted, timeout))
    # The fastest answer is the network's latency; slower ones include this machine's. Silence counts after a second
    # SYN: the first may have been lost.
    timeout = SYN_AGAIN_SECONDS + min(timeout, 0.2 + 20 * scanner.fastest)
    others = [port for port in ports if port not in set(wanted)]
    random.shuffle(others)
    if len(others) >= MIN_CONTROLS:
        # What accepts in place of the server does it at once. Those that stay silent are tried again with all others.
        controls, others = others[:CONTROLS], others[CONTROLS:]
        others += scanner.sweep(controls, timeout - SYN_AGAIN_SECONDS)
        accepted = len(scanner.open.intersection(controls))
        if accepted > MAX_SHARE_OF_OPEN_CONTROLS * len(controls):
            return result | {
                "reliable": False,
                "intercepted": True,
                "reason": f"{accepted} of {len(controls)} random ports accept connections, as no server does: "
                "something in between answers in its place",
                "answered": True,
                "errors": {},
                "elapsed": round(time.monotonic() - began, 2),
            }
    left |= set(scanner.sweep(others, timeout))
    left -= set(scanner.errors)
    left |= set(scanner.sweep(sorted(scanner.errors), timeout))
    left = (left - set(wanted)) | set(scanner.sweep(sorted(left & set(wanted))[:MAX_PATIENT_PORTS], patient))
    codes = [scanner.errors[port] for port in left if port in scanner.errors]
    turned_away = sum(code in TURNED_AWAY for code in codes)
    errors = Counter(errno.errorcode.get(code, "unknown") for code in codes if code not in TURNED_AWAY)
    result |= {
        "answered": bool(scanner.open or scanner.closed),
        "open": sorted(scanner.open),
        "closed": len(scanner.closed - scanner.open) + turned_away,
        "silent": len(left) - len(codes),
        "errors": dict(errors),
    }
    if time.monotonic() > scanner.ends:
        why = ""
        if possible < concurrency or scanner.files_ran_out:
            why = (
                f", because this machine allows {scanner.concurrency} connections at a time: raise its limit of open "
                "files, `ulimit -n 16384`"
            )
        result |= {"reliable": False, "reason": f"not every port was tried within {deadline:.0f} s{why}"}
    elif errors:
        name, count = errors.most_common(1)[0]
        result |= {
            "reliable": False,
            "reason": f"this machine could not try {count} ports ({os.strerror(getattr(errno, name, 0))})",
        }
    elif result["open"] and left:
        # A home router with a full connection table drops packets: then silence is inconclusive.
        witness = Scanner(address, concurrency, deadline)
        witness.sweep(result["open"][:MAX_PATIENT_PORTS], patient)
        if not witness.open:
            result |= {
                "reliable": False,
                "reason": "open ports stopped answering during the scan: lower the concurrency",
            }
    result["elapsed"] = round(time.monotonic() - began, 2)
    return result
