#!/usr/bin/env python3
"""Prove on a lab host that a backup and its proof do not slow down the api: `make backup-load`.

The load generator sends 50 requests a second while the host backs up and proves, and for as long without; three times,
in turn. The middle one of the three ratios of the 99th percentiles counts, since machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "load"), str(TESTS / "faults"), str(TESTS), str(TESTS.parent / "lab")]
import proofs  # noqa: E402
from lab_host import LabHost  # noqa: E402
from proof import Proof, unharmed  # noqa: E402

PAIRS = 3
AT_MOST = 1.1
UNITS = ("openmates-backup", "openmates-backup-proof")
QUIET_SECONDS = 40


def backed_up(host: LabHost) -> None:
    """What the timer does each night. Raises HostError if the backup or the proof fails."""
    for unit in UNITS:
        host.shell(f"systemctl start {unit}", timeout=1800)


def judged(pairs: list[tuple[dict, dict]]) -> tuple[bool, str]:
    """Whether the ratio is small enough and nothing failed; and a line with what was measured, from (with, without)."""
    ratios = [busy["milliseconds"]["p99"] / quiet["milliseconds"]["p99"] for busy, quiet in pairs]
    each = ", ".join(
        f"{quiet['milliseconds']['p99']:.0f} -> {busy['milliseconds']['p99']:.0f} ms" for busy, quiet in pairs
    )
    failed = sum(result["failed"] for pair in pairs for result in pair)
    sent = sum(result["requests"] for pair in pairs for result in pair)
    passed = statistics.median(ratios) <= AT_MOST and all(unharmed(result) for pair in pairs for result in pair)
    return passed, f"p99 x {statistics.median(ratios):.2f} ({each}), {failed} of {sent} requests failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod2", help="a provisioned lab host with backups; default: prod2")
    proof = Proof(LabHost(parser.parse_args().host))
    began, pairs = time.monotonic(), []
    backed_up(proof.host)  # the first one stores everything
    for number in range(1, PAIRS + 1):
        quiet = proof.measure("backup-quiet", lambda: time.sleep(QUIET_SECONDS))
        busy = proof.measure("backup-busy", lambda: backed_up(proof.host))
        pairs.append((busy, quiet))
        print(f"{number} of {PAIRS}: {judged(pairs[-1:])[1]}", flush=True)
    passed, detail = judged(pairs)
    detail += f"; load {os.getloadavg()[0]:.0f}"
    proofs.Proofs().record(
        "backup under load", "passed" if passed else "failed", detail, seconds=time.monotonic() - began
    )
    print(detail)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
