#!/usr/bin/env python3
"""Put a steady load on an api, as its users do, and count what fails.

A request starts every 1/RATE seconds whatever became of the one before: half of them POSTs over kept-alive connections,
half GETs, every tenth of which opens a connection of its own. Beside them a slow request is always under way, and
WebSockets stay open and send a message each second; one that is closed is opened again. Requests are never repeated:
what fails here has failed for a user. With --watch, the sample backend's report of its dependencies is read every two
seconds as well, to find for how long one was away. Standard library only.

Ends after --seconds or at SIGTERM or SIGINT, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
import struct
import sys
import time
from collections import Counter, deque
from itertools import pairwise
from pathlib import Path

BODY = b"x" * 2000
ANSWER_SECONDS = 30.0
GET_PATH, POST_PATH, SLOW_PATH, SOCKET_PATH = "/whoami", "/received", "/sample/slow?seconds={}", "/sample/websocket"
WATCH_PATH, WATCH_EVERY = "/sample/dependencies", 2.0
NORMAL_CLOSE = {1000, 1001, 1012}  # done, going away, service restart


class Closed(Exception):
    """The peer closed a WebSocket; the argument is the code of its close frame, or None if there was none."""


class Results:
    """What happened, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.sent: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.slow: list[float] = []
        self.failures: list[dict] = []
        self.closes: Counter[str] = Counter()
        self.reopened = 0
        self.refused_sockets = 0
        self.seen: dict[str, list[float]] = {}  # by dependency: when it was there

    def now(self) -> float:
        return time.monotonic() - self.begin

    def fail(self, kind: str, began: float, why: str) -> None:
        """Count a failed request by the moment at which it was sent."""
        self.failures.append({"at": round(began, 2), "kind": kind, "why": why, "after": round(self.now() - began, 2)})

    def longest_away(self) -> dict[str, float]:
        """For how long each watched dependency was away at most: between two moments at which it was there."""
        result = {}
        for name, moments in self.seen.items():
            edges = [0.0, *moments, self.now()]
            result[name] = round(max(after - before for before, after in pairwise(edges)), 1)
        return result

    def summary(self) -> dict:
        ordered = sorted(self.latencies)
        seconds = {int(failure["at"]) for failure in self.failures}
        reasons = Counter(f"{failure['kind']}: {failure['why']}" for failure in self.failures)
        return {
            "seconds": round(self.now(), 1),
            "requests": sum(self.sent.values()),
            "by_kind": dict(self.sent),
            "failed": len(self.failures),
            "reasons": dict(reasons.most_common(8)),
            "outage_seconds": len(seconds),
            "first_failure": min((failure["at"] for failure in self.failures), default=None),
            "last_failure": max((failure["at"] for failure in self.failures), default=None),
            "milliseconds": {name: percentile(ordered, share) for name, share in SHARES.items()},
            "slow_requests": len(self.slow),
            "failures_by_ten_seconds": dict(Counter(int(failure["at"] // 10) * 10 for failure in self.failures)),
            "websockets": {
                "closed": dict(self.closes),
                "unclean": sum(n for code, n in self.closes.items() if code not in map(str, NORMAL_CLOSE)),
                "reopened": self.reopened,
                "refused": self.refused_sockets,
            },
            "longest_away": self.longest_away(),
            "failures": self.failures[:20],
        }


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def percentile(ordered: list[float], share: float) -> float | None:
    """Milliseconds below which that share of the latencies is."""
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1) if ordered else None


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.keep = True
        self.body = b""

    @property
    def closed(self) -> bool:
        """Whether the server has closed it since its last answer, as it may: a client sees this before it sends."""
        return self.reader.at_eof() or self.writer.is_closing()

    async def send(self, method: str, host: str, path: str, body: bytes = b"", more: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}"
        if body:
            head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return int(lines[0].split()[1]), headers

    async def answer(self) -> int:
        """The status of an answer, after all of its body was read."""
        status, headers = await self.head()
        self.body = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                self.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            self.body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        self.keep = headers.get("connection", "").lower() != "close"
        return status

    def close(self) -> None:
        self.writer.close()


class Client:
    """Connections to one host, kept alive."""

    def __init__(self, options: argparse.Namespace, results: Results) -> None:
        self.options, self.results = options, results
        self.idle: deque[Connection] = deque()
        self.context = None
        if not options.plain:
            self.context = ssl.create_default_context(cafile=options.ca_file)

    async def open(self) -> Connection:
        port = self.options.port or (80 if self.options.plain else 443)
        name = None if self.options.plain else self.options.host
        streams = await asyncio.open_connection(
            self.options.address, port, ssl=self.context, server_hostname=name, limit=2**20
        )
        return Connection(*streams)

    async def connection(self, new: bool) -> Connection:
        while self.idle and not new:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
            connection.close()
        return await self.open()

    async def request(self, kind: str, method: str, path: str, body: bytes = b"", new: bool = False) -> float | None:
        """Send a request once; the seconds that it took, or None if it failed."""
        began = self.results.now()
        self.results.sent[kind] += 1
        connection = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await self.connection(new)
                await connection.send(method, self.options.host, path, body)
                status = await connection.answer()
        except (OSError, TimeoutError, EOFError, ValueError, IndexError) as error:
            self.results.fail(kind, began, type(error).__name__)
            if connection:
                connection.close()
            return None
        if connection.keep and not new:
            self.idle.append(connection)
        else:
            connection.close()
        if status != 200:
            self.results.fail(kind, began, str(status))
            return None
        return self.results.now() - began

    async def quick(self, number: int) -> None:
        if number % 2:
            taken = await self.request("POST", "POST", POST_PATH, BODY)
        else:
            taken = await self.request("GET", "GET", GET_PATH, new=number % 20 == 0)
        if taken is not None:
            self.results.latencies.append(taken)

    async def slow(self) -> None:
        while True:
            taken = await self.request("slow", "POST", SLOW_PATH.format(self.options.slow), b"x")
            if taken is None:
                await asyncio.sleep(0.2)
            else:
                self.results.slow.append(taken)

    async def watch(self, names: list[str]) -> None:
        """Note when each dependency is there. These are no requests of a user: no failure of one is counted."""
        self.results.seen = {name: [] for name in names}
        while True:
            with contextlib.suppress(OSError, TimeoutError, EOFError, ValueError, IndexError, KeyError):
                connection = await self.open()
                with contextlib.closing(connection):
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await connection.send("GET", self.options.host, WATCH_PATH)
                        await connection.answer()
                        checks = json.loads(connection.body)["checks"]
                for name in names:
                    if checks[name]["ok"]:
                        self.results.seen[name].append(self.results.now())
            await asyncio.sleep(WATCH_EVERY)

    async def websocket(self) -> None:
        """Keep one WebSocket open, as a browser does: when it is closed, open the next one after half a second."""
        opened = False
        while True:
            began = self.results.now()
            try:
                connection = await self.open_websocket()
            except (OSError, TimeoutError, EOFError, ValueError, IndexError) as error:
                self.results.refused_sockets += 1
                self.results.fail("websocket", began, f"not opened: {error or type(error).__name__}")
                await asyncio.sleep(0.5)
                continue
            self.results.reopened += opened
            opened = True
            try:
                await self.talk(connection)
            except Closed as closed:
                self.results.closes[str(closed.args[0])] += 1
            except (OSError, TimeoutError, EOFError):
                self.results.closes["None"] += 1
            finally:
                connection.close()
            await asyncio.sleep(0.5)

    async def open_websocket(self) -> Connection:
        """A WebSocket. Raises ValueError if the server answers with something else."""
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await self.open()
            key = base64.b64encode(os.urandom(16)).decode()
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            upgrade += f"Sec-WebSocket-Key: {key}\r\n"
            await connection.send("GET", self.options.host, SOCKET_PATH, more=upgrade)
            status, _ = await connection.head()
        if status != 101:
            connection.close()
            raise ValueError(str(status))
        return connection

    async def talk(self, connection: Connection) -> None:
        """Send a text each second and wait for its echo. Raises Closed."""
        while True:
            connection.writer.write(frame(1, b"hello"))
            await connection.writer.drain()
            async with asyncio.timeout(ANSWER_SECONDS):
                await read_text(connection)
            # A close frame arrives between two messages too.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await read_text(connection)


def frame(opcode: int, payload: bytes) -> bytes:
    """A short frame from a client, which has to mask it."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


async def read_text(connection: Connection) -> bytes:
    """The next text. Answers pings, and a close frame with another. Raises Closed."""
    while True:
        # Cancelled while it waits for the first byte only: a frame is never read by half.
        first = await connection.reader.readexactly(1)
        second = (await connection.reader.readexactly(1))[0]
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", await connection.reader.readexactly(2))[0]
        payload = await connection.reader.readexactly(size)
        opcode = first[0] & 0x0F
        if opcode == 8:
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            with contextlib.suppress(OSError):
                connection.writer.write(frame(8, payload[:2]))
                await connection.writer.drain()
            raise Closed(code)
        if opcode == 9:
            connection.writer.write(frame(10, payload))
        elif opcode == 1:
            return payload


async def load(options: argparse.Namespace) -> dict:
    """Put load on the host until the end."""
    results = Results()
    client = Client(options, results)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    standing = [asyncio.create_task(client.websocket()) for _ in range(options.websockets)]
    standing += [asyncio.create_task(client.slow())] if options.slow else []
    standing += [asyncio.create_task(client.watch(options.watch))] if options.watch else []
    running: set[asyncio.Task] = set()
    number = 0
    while not ended.is_set() and (not options.seconds or results.now() < options.seconds):
        task = asyncio.create_task(client.quick(number))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        if options.progress and number % (options.rate * 10) == 0:
            print(
                f"{results.now():.0f} s, {number} requests, {len(results.failures)} failed", file=sys.stderr, flush=True
            )
        # Begin each request at its own moment, so that a slow answer delays none of the later ones.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), max(results.begin + number / options.rate - time.monotonic(), 0))
    if running:
        await asyncio.wait(running, timeout=ANSWER_SECONDS + 1)
    for task in standing:
        task.cancel()
    await asyncio.gather(*standing, return_exceptions=True)
    return results.summary()


def ahead_of_the_host() -> None:
    """It stands for other machines: what the lab host does on the same processors is not to delay it, if possible."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="the api's public name")
    parser.add_argument("--address", required=True, help="where it is")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ca-file", help="the certificate authority's certificate; default: the system's")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--rate", type=int, default=50, help="requests per second; default: 50")
    parser.add_argument("--websockets", type=int, default=10)
    parser.add_argument("--slow", type=float, default=5, help="seconds of the slow request; 0: none")
    parser.add_argument("--watch", nargs="*", default=[], metavar="DEPENDENCY", help="such as cache")
    parser.add_argument("--seconds", type=float, default=0, help="default: until SIGTERM")
    parser.add_argument("--out", type=Path, help="a file for the result, instead of standard output")
    parser.add_argument("--progress", action="store_true", help="show a line every ten seconds")
    options = parser.parse_args()
    ahead_of_the_host()
    text = json.dumps(asyncio.run(load(options)), indent=2)
    if options.out:
        options.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
