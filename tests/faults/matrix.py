#!/usr/bin/env python3
"""The matrix of faults on a provisioned lab host: every long-running service, and each fault that it can have.

A killed service has to be well again within 180 s. So has one whose fault lasts; or else an alert that names the cause
arrives at the lab's receiver within the `for` of its rule and 90 s, and the service is well within 180 s of the fault's
end, and the end of the alert arrives. No operator acts. Clients' requests that fail meanwhile are counted. A cell that
passed is skipped when nothing that matters has changed: docs/proofs.md, lab/proofs.py. docs/outages.md has the table.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import ending
import faults
import proofs
import receiver
from cells import ASIDE, CHAIN, LOOK_BACK, Cell, batches, cells, patience
from full_disk import FullDisk
from lab_host import ROOT, HostError, LabHost
from receiver import Alert
from visitors import Visitors
from wrong_secret import WrongSecret

FAULTS = {
    "killed": ending.Killed,
    "out-of-memory": ending.OutOfMemory,
    "frozen": faults.Frozen,
    "cut-off": faults.CutOff,
    "wrong-secret": WrongSecret,
    "disk-full": FullDisk,
}
INPUTS = ("files", "lab/backend", "lab/images", "playbooks", "plugins", "roles", "tests/faults")
HEAL_SECONDS = 180
ON_ITS_WAY = 90  # seconds of an alert besides its rule's `for`
WATCHDOG_SECONDS = 300 + ON_ITS_WAY  # between two requests, before the service outside reports it
LONGEST = 900  # until something has to have happened to a fault that lasts
STOPPED = threading.Event()  # by a signal: every fault is released
QUIET_SECONDS = 1200  # an alert that looks back ends 10 minutes after its cause


class Watched:
    """One cell on a host, from a server that is well to one that is well."""

    def __init__(self, host: LabHost, cell: Cell, visitors: Visitors, shared: bool = False, times: float = 1) -> None:
        """`shared`: other services have the same fault; `times`: how much longer than allowed everything may take."""
        self.heal_seconds, self.on_its_way, self.times = HEAL_SECONDS * times, ON_ITS_WAY * times, times
        self.host, self.cell, self.visitors, self.shared = host, cell, visitors, shared
        self.fault = FAULTS[cell.fault](host, cell.service)
        self.patience = patience()
        self.begun = 0.0
        self.details: list[str] = []

    def run(self) -> tuple[bool, str]:
        """Whether it passed, and what was seen."""
        try:
            passed = self._lasting() if self.fault.lasting else self._ended()
        except HostError as error:
            self.details.append(str(error))
            passed = False
        if self.begun:
            others = ", of this fault in several services at once" if self.shared else ""
            self.details.append(self.visitors.failed(self.begun, time.time()) + others)
        return passed, "; ".join(self.details)

    def _apply(self) -> None:
        self.begun = time.time()
        self.fault.apply()
        if not self.fault.in_force():
            raise HostError(f"the fault has no effect on {self.cell.service}")

    def _ended(self) -> bool:
        """A process that was killed."""
        self._apply()
        healed = self._healed(self.begun)
        if self.cell.fault == "out-of-memory":
            self._wait(self._arrived, self.begun + self.on_its_way + 30)
            return healed and self._in_time()
        self._mention_alerts()
        return healed

    def _lasting(self) -> bool:
        try:
            self._apply()
            happened = self._wait(self._noticed, self.begun + LONGEST)
        finally:
            self.fault.release()
        released = time.time()
        if happened == "healed":
            self.details.insert(0, f"well again after {released - self.begun:.0f} s, while the fault lasted")
            passed = released - self.begun <= self.heal_seconds
        else:
            passed = bool(happened)
            if happened:
                self.details.append(happened)
            else:
                self._in_time()  # says when each came
                self.details.append(f"none in time, within {LONGEST} s")
            passed = self._healed(released) and passed
        return self._alerts_end() and passed

    def _noticed(self) -> str:
        """What has ended the wait: an alert in time, the watchdog's silence, or that it is well; else nothing."""
        self.fault.keep()
        if self._arrived() and self._in_time(say=False):
            self._in_time()
            return f"{len(self._arrived())} alerts" if len(self._arrived()) > 1 else "one alert"
        if self.cell.service in CHAIN and self._silent() > WATCHDOG_SECONDS:
            return f"the watchdog's requests stopped {self._silent():.0f} s ago"
        if self.fault.ends_with_process and not self.fault.in_force() and self._well():
            return "healed"
        return ""

    def _silent(self) -> float:
        return time.time() - receiver.last_request_of_watchdog(self.host.name)

    def _arrived(self) -> list[Alert]:
        """The alerts that name the cause."""
        found = receiver.alerts(self.host.name, self.begun)
        return [alert for alert in found if alert.firing and self.cell.is_named_by(alert.labels)]

    def _in_time(self, say: bool = True) -> bool:
        seen, well = {}, False
        for alert in self._arrived():
            after, limit = alert.time - self.begun, self.patience[alert.labels["alertname"]] + ON_ITS_WAY
            seen.setdefault(alert.name, f"{alert.name} after {after:.0f} of {limit} s")
            well = well or after <= limit * self.times
        if say:
            self.details += seen.values() or ["no alert that names it"]
        return well

    def _mention_alerts(self) -> None:
        self.details += sorted({f"{alert.name} after {alert.time - self.begun:.0f} s" for alert in self._arrived()})

    def _alerts_end(self) -> bool:
        """Whether the end of each alert that arrived has arrived, except of those that look back."""

        def open_alerts() -> list[str]:
            last = {}
            for alert in receiver.alerts(self.host.name, self.begun):
                if self.cell.is_named_by(alert.labels) and alert.labels["alertname"] not in LOOK_BACK:
                    last[alert.name] = alert
            return sorted(name for name, alert in last.items() if alert.firing)

        if self._wait(lambda: not open_alerts(), time.time() + self.heal_seconds):
            return True
        self.details.append(f"without an end: {', '.join(open_alerts())}")
        return False

    def _healed(self, since: float) -> bool:
        """Wait until it is well, and say for how long."""
        if self._wait(self._well, since + self.heal_seconds):
            self.details.insert(0, f"well again after {time.time() - since:.0f} s")
            return True
        self.details.insert(0, f"not well within {self.heal_seconds:.0f} s: {self._unwell()}")
        return False

    def _well(self) -> bool:
        return not self._unwell()

    def _unwell(self) -> str:
        if not self.host.healthy(self.cell.service):
            return f"the health check of {self.cell.service} fails"
        if self.cell.service in (*ASIDE, *CHAIN):
            return ""
        ready, failing = self.host.readiness()
        return "" if ready else str(failing)

    def _wait(self, condition: Callable[[], object], until: float) -> object:
        """The condition's first true result, or its last one. Raises HostError if this program has to end."""
        while not (result := condition()) and time.time() < until:
            if STOPPED.is_set():
                raise HostError("stopped")
            time.sleep(1)
        return result


def quiet(host: LabHost, services: set[str]) -> str:
    """What still has to end before a fault in these services: a part that is not ready, an alert. Empty: nothing."""
    for service in (*CHAIN, *ASIDE):
        if not host.healthy(service):
            return f"{service} is unhealthy"
    ready, failing = host.readiness()
    if not ready:
        return f"not ready: {failing}"
    if not Visitors(host).answered():
        return f"clients outside get no answer from {host.name}, or one with another certificate than the lab's"
    asked = host.shell("curl -sf http://172.30.0.13:9090/api/v1/alerts", check=False).stdout
    try:
        found = [alert["labels"] for alert in json.loads(asked)["data"]["alerts"] if alert["state"] == "firing"]
    except (ValueError, KeyError):
        return f"Prometheus does not list its alerts: {asked[:200]}"
    kept = {("ServiceOutOfMemory", service) for service in services}
    firing = [
        labels
        for labels in found
        if labels["severity"] == "critical"
        # The last is sent once and silences others of its service.
        and (labels["alertname"] not in LOOK_BACK or (labels["alertname"], labels.get("service")) in kept)
    ]
    return f"alerts: {firing}" if firing else ""


def calm(host: LabHost, services: set[str]) -> None:
    """Wait until the next fault can begin. Raises HostError."""
    until = time.time() + QUIET_SECONDS
    while reason := quiet(host, services):
        if time.time() > until:
            raise HostError(f"{host.name} is not well before the fault: {reason}")
        time.sleep(1)


def run_batch(host: LabHost, batch: list[Cell], times: float = 1) -> Iterator[tuple[Cell, bool, str, float]]:
    """Run cells at once: each with its own verdict as soon as there is one, its requests those of all. `times`: how
    much longer than allowed everything may take. Raises HostError if none could begin."""
    services = {cell.service for cell in batch}
    calm(host, services)
    visitors = Visitors(host)
    watched = [Watched(host, cell, visitors, len(batch) > 1, times) for cell in batch]

    def one(cell: Watched) -> tuple[Cell, bool, str, float]:
        begun = time.monotonic()
        passed, detail = cell.run()
        return cell.cell, passed, detail, time.monotonic() - begun

    try:
        for cell in watched:
            cell.fault.prepare()
        if any(cell.cell.fault == "disk-full" for cell in watched):  # it was stopped for a moment
            calm(host, services)
        with visitors.visiting(), ThreadPoolExecutor(len(watched)) as pool:
            for ended in as_completed([pool.submit(one, cell) for cell in watched]):
                yield ended.result()
    finally:
        for cell in watched:
            cell.fault.remove()


def chosen(words: list[str]) -> list[Cell]:
    """The cells whose names are one of the words, or of whose service or fault one is; all without any."""
    found = [cell for cell in cells() if not words or {cell.name, cell.service, cell.fault} & set(words)]
    unknown = [word for word in words if not any(word in (cell.name, cell.service, cell.fault) for cell in cells())]
    if unknown:
        raise HostError(f"CASE={unknown[0]} is none of: {', '.join(cell.name for cell in cells())}")
    return found


def stop(number: int, _: object) -> None:
    """End at a signal, without a fault that is left."""
    STOPPED.set()
    sys.exit(128 + number)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod2", help="a provisioned lab host; default: prod2")
    parser.add_argument("--again", action="store_true", help="repeat cells that passed")
    parser.add_argument("--list", action="store_true", help="show the cells and end")
    parser.add_argument("case", nargs="*", help="a cell, a service or a fault: vault-killed, vault, killed")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    failed = []
    try:
        wanted = chosen(options.case)
        if options.list:
            print(
                "\n".join(f"{cell.name}{': ' + cell.not_applicable if cell.not_applicable else ''}" for cell in wanted)
            )
            return 0
        host, record = LabHost(options.host), proofs.Proofs()
        backend = host.backend()
        digest = record.digest(INPUTS, [backend])
        left = [cell for cell in wanted if options.again or not record.done(f"matrix: {cell.name}, {backend}", digest)]
        for batch in batches(left):
            say(f"{', '.join(cell.name for cell in batch)} ...")
            for cell, passed, detail, seconds in run_batch(host, batch):
                result = "passed" if passed else "failed"
                record.record(f"matrix: {cell.name}, {backend}", result, detail, digest=digest, seconds=seconds)
                say(f"{cell.name}: {result}: {detail}")
                failed += [] if passed else [cell.name]
                generate = [sys.executable, str(ROOT / "docs/generate.py")]
                subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)  # the table in docs/outages.md
    except HostError as error:
        print(f"fault-matrix: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"fault-matrix: {len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
