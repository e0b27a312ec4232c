#!/usr/bin/env python3
"""Simulate outages on a provisioned lab host, and prove that it recovers without an operator.

A service is frozen or cut off for five minutes and released; the readiness probe has to report ready within 180 s. Or a
service is killed at a moment of its first start; the run of site.yml that is under way, or the next, has to end green.
Each case that passed is skipped when nothing that matters has changed: docs/proofs.md, lab/proofs.py.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time

import first_start
import proofs
from faults import FAULTS
from lab_host import ROOT, HostError, LabHost

SERVICES = ("cache", "cms", "cms-database", "vault", "task-worker")
INPUTS = ("files", "lab/backend", "lab/images", "playbooks", "plugins", "roles", "tests/faults")
DURATIONS = ROOT / ".lab/faults/durations.json"


def cases() -> list[str]:
    outages = [f"{service}-{fault}" for fault in FAULTS for service in SERVICES]
    kills = [
        f"{service}-killed-{number}"
        for service in first_start.SERVICES
        for number in range(1, len(first_start.MOMENTS) + 1)
    ]
    return outages + kills


def chosen(words: list[str]) -> list[str]:
    """The cases whose names are, or begin or end with, one of the words; all without any. Raises HostError."""
    if not words:
        return cases()
    found = []
    for word in words:
        hits = [case for case in cases() if case == word] or [
            case for case in cases() if case.startswith(word + "-") or case.endswith("-" + word) or f"-{word}-" in case
        ]
        if not hits:
            raise HostError(f"CASE={word} is none of: {', '.join(cases())}")
        found += [case for case in hits if case not in found]
    return found


def wait_until_ready(host: LabHost, seconds: float) -> tuple[float, dict[str, str]]:
    """Seconds until the probe reports ready, and nothing; or the seconds waited and what still fails."""
    begun = time.monotonic()
    while True:
        ready, failing = host.readiness()
        waited = time.monotonic() - begun
        if ready:
            return waited, {}
        if waited > seconds:
            return waited, failing
        time.sleep(3)


def outage(host: LabHost, service: str, fault_name: str, options: argparse.Namespace) -> tuple[bool, str]:
    """One fault, from a ready host to a ready host."""
    waited, failing = wait_until_ready(host, options.within)
    if failing:
        raise HostError(f"{host.name} is not ready before the fault: {failing}. Run site.yml first")
    started = {entry["Id"]: entry["State"]["StartedAt"] for name in host.services() for entry in host.containers(name)}
    fault = FAULTS[fault_name](host, service)
    try:
        fault.apply()
        if not fault.in_force():
            raise HostError(f"{service} was not {fault.name}: the fault has no effect on this host")
        end = time.monotonic() + options.seconds
        shown = 0.0
        while (left := end - time.monotonic()) > 0:
            if time.monotonic() - shown > 30:
                say(f"  {service} {fault.name}, {left:.0f} s left")
                shown = time.monotonic()
            fault.keep()
            # Client requests continue: they use up attempts.
            host.shell(f"for i in 1 2 3 4 5; do {visit(host)} & done; wait", check=False)
            time.sleep(min(2, max(left, 0)))
    finally:
        fault.release()
    say(f"  {service} released")
    waited, failing = wait_until_ready(host, options.within)
    restarted = sorted(
        name
        for name in set(host.services())
        for entry in host.containers(name)
        if started.get(entry["Id"]) != entry["State"]["StartedAt"]
    )
    detail = f"{options.seconds:.0f} s; " + (f"not ready: {failing}" if failing else f"ready after {waited:.0f} s")
    return not failing, detail + (f"; restarted: {', '.join(restarted)}" if restarted else "")


def visit(host: LabHost) -> str:
    """A request that the api can only answer with the help of Directus and the cache."""
    name = f"api.{host.name}.example.test"
    return (
        f"curl --silent --insecure --output /dev/null --max-time 5 --resolve {name}:443:127.0.0.1"
        " --header 'Content-Type: application/json' --data '{\"invite_code\": \"0000-0000-0000\"}'"
        f" https://{name}/v1/auth/check_invite_token_valid"
    )


def first_start_killed(host: LabHost, service: str, number: int, options: argparse.Namespace) -> tuple[bool, str]:
    durations = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    if host.name not in durations:
        say(f"  measuring the first starts on {host.name}, undisturbed")
        durations[host.name] = first_start.measure(host)
        DURATIONS.parent.mkdir(parents=True, exist_ok=True)
        DURATIONS.write_text(json.dumps(durations))
    seconds = first_start.moments(durations[host.name], service)[number - 1]
    for attempt in range(3):
        say(f"  an empty stack, {service} killed {seconds} s after its first start")
        try:
            outcome = first_start.kill_at(host, service, seconds)
            break
        except first_start.TooLateError:
            if attempt == 2:
                raise
            seconds = round(seconds * 0.8, 1)
    waited, failing = wait_until_ready(host, options.within)
    return not failing, f"{outcome}; " + (f"not ready: {failing}" if failing else f"ready after {waited:.0f} s")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod2", help="a provisioned lab host; default: prod2")
    parser.add_argument("--seconds", type=float, default=300, help="how long a fault lasts; default: 300")
    parser.add_argument("--within", type=float, default=180, help="seconds to be ready again in; default: 180")
    parser.add_argument("--again", action="store_true", help="repeat cases that passed")
    parser.add_argument("--list", action="store_true", help="show the cases and end")
    parser.add_argument("case", nargs="*", help="a case, or what one begins or ends with: cache, frozen, killed")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # release the fault on any signal
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    failed = []
    try:
        wanted = chosen(options.case)
        if options.list:
            print("\n".join(wanted))
            return 0
        host = LabHost(options.host)
        backend = host.backend()
        record = proofs.Proofs()
        for number, case in enumerate(wanted, 1):
            name = f"faults: {case}, {backend}"
            digest = record.digest(INPUTS, [backend, f"{options.seconds:.0f}", f"{options.within:.0f}"])
            if record.done(name, digest) and not options.again:
                say(f"[{number}/{len(wanted)}] {case}: passed before with the same inputs")
                continue
            say(f"[{number}/{len(wanted)}] {case}")
            begun = time.monotonic()
            try:
                if "-killed-" in case:
                    service, _, moment = case.partition("-killed-")
                    passed, detail = first_start_killed(host, service, int(moment), options)
                else:
                    fault = next(fault for fault in FAULTS if case.endswith(f"-{fault}"))
                    passed, detail = outage(host, case.removesuffix(f"-{fault}"), fault, options)
            except HostError as error:
                passed, detail = False, str(error)
            result = "passed" if passed else "failed"
            record.record(name, result, detail, digest=digest, seconds=time.monotonic() - begun)
            say(f"[{number}/{len(wanted)}] {case}: {result}: {detail}")
            failed += [] if passed else [case]
    except HostError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"faults: {len(failed)} of {len(wanted)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
