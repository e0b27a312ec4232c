#!/usr/bin/python3
"""Scan the other servers of the inventory from outside. Usage: scan_servers.py CONFIG [--now]

Tries every TCP port of each address that is due, slowly, and leaves the results as metrics and for the status. With
--now, every address is due. Nothing is scanned but the addresses that site.yml has written for this server.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils import metrics, peer_scan, tcp_scan
except ImportError:  # on the host they are beside this file, where an isolated Python does not search by itself
    sys.path.insert(0, str(Path(__file__).parent))
    from ansible_collections.openmates.server.plugins.module_utils import metrics, peer_scan, tcp_scan
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically

PREFIX, FILE = "openmates", "scan"
TIMEOUT = 2.0  # seconds, for servers in another part of the world
DEADLINE = 3600.0
ALL_PORTS = list(range(1, 65536))


def scan_once(target: peer_scan.Target, address: str, concurrency: int, ports: list[int]) -> peer_scan.Result:
    """One look at these ports. Those that should be open, or were, are tried first and with more patience."""
    first = target.ports if len(ports) == len(ALL_PORTS) else ports
    entry = tcp_scan.scan(address, ports, first, TIMEOUT, concurrency, DEADLINE)
    return peer_scan.judge(target, address, entry, time.time())


def scan(
    target: peer_scan.Target, address: str, config: dict, wait: Callable[[float], None] = time.sleep
) -> peer_scan.Result:
    """All ports of an address. What is wrong has to be so a second time: a server may just have restarted."""
    result = scan_once(target, address, config["concurrency"], ALL_PORTS)
    if peer_scan.clean(result):
        return result
    wait(config["confirm_seconds"])
    if result["state"] != peer_scan.SEEN:
        return scan_once(target, address, config["concurrency"], ALL_PORTS)
    return scan_again(target, address, config, result)


def scan_again(target: peer_scan.Target, address: str, config: dict, before: peer_scan.Result) -> peer_scan.Result:
    """The declared ports and those that were open: the others were closed when all were tried."""
    ports = sorted({*target.ports, *before["unexpected"]})
    result = scan_once(target, address, config["concurrency"], ports)
    return result | {name: before[name] for name in ("full", "seen")}


def text_of(result: peer_scan.Result) -> str:
    """A line of the log, as a warning if something is wrong."""
    where = f"{result['server']} at {result['address']}"
    if peer_scan.clean(result):
        return f"<5>{where}: {', '.join(map(str, result['open']))} open, as declared"
    words = [f"not seen: {result['reason']}"] if result["state"] != peer_scan.SEEN else []
    words += [f"{port} is open and not declared" for port in result["unexpected"][: peer_scan.MOST_PORTS]]
    words += [f"{port} is declared and closed" for port in result["missing"]]
    return f"<4>{where}: {'; '.join(words)}"


class Record:
    """The results of all addresses, in a file that outlives this run."""

    def __init__(self, config: dict) -> None:
        self.config, self.file = config, Path(config["record"])
        self.results: dict[str, peer_scan.Result] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is none yet, or it is no record
            self.results = {one["address"]: one for one in json.loads(self.file.read_text())["results"]}

    def write(self, targets: list[peer_scan.Target]) -> None:
        """Write what is known of these servers, and forget the others."""
        addresses = {address: target.server for target in targets for address in target.addresses}
        self.results = {
            address: self.results[address]
            for address, server in addresses.items()
            if address in self.results and self.results[address]["server"] == server
        }
        found = list(self.results.values())
        record = {"time": time.time(), "hours": self.config["hours"], "results": found}
        write_atomically(self.file, json.dumps(record, sort_keys=True).encode(), 0o644)
        metrics.write(Path(self.config["directory"]), PREFIX, peer_scan.samples(found), FILE)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    targets, record = peer_scan.targets(config), Record(config)
    record.write(targets)
    for target in targets:
        for address in target.addresses:
            before = record.results.get(address)
            seconds = 0 if "--now" in sys.argv else config["hours"] * peer_scan.HOUR
            due = peer_scan.due(before, target, time.time(), seconds)
            if due:
                again = due == peer_scan.WRONG
                result = scan_again(target, address, config, before) if again else scan(target, address, config)
                result = peer_scan.following(before, result)
                print(text_of(result), flush=True)
                record.results[address] = result
                record.write(targets)


if __name__ == "__main__":
    main()
