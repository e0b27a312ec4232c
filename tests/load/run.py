#!/usr/bin/env python3
"""Prove on a lab host, under load, that a deploy fails no request: docs/deploy.md has the cases.

All through a case a load generator sends 50 requests a second through Caddy, half of them POSTs over kept-alive
connections, with a 5-second request and ten WebSockets beside them. Each case that passed is skipped when nothing that
matters has changed: docs/proofs.md, lab/proofs.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "load"), str(TESTS / "faults"), str(TESTS), str(TESTS.parent / "lab")]
import proofs  # noqa: E402
from cases import CASES, FROM_INVENTORY, LEAVES_OTHERS  # noqa: E402
from killing import MomentMissed  # noqa: E402
from lab_host import HostError, LabHost  # noqa: E402
from proof import Proof  # noqa: E402

INPUTS = ("files", "lab/backend", "lab/images", "playbooks", "plugins", "roles", "tests/load", "tests/moments.py")


class Runner:
    """Runs cases one after the other, each from a state that it can begin with."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof
        self.usable = False  # whether a case that deploys can begin: the secrets are the inventory's, one api runs

    def prepare(self, case: str) -> None:
        if not self.usable or (case in FROM_INVENTORY and not self.proof.converged):
            self.proof.converge()
        if not self.proof.made:
            self.proof.make_versions()
        self.usable = False  # until it has ended

    def run(self, case: str) -> tuple[bool, str]:
        try:
            self.prepare(case)
            passed, detail = CASES[case](self.proof)
        except (HostError, MomentMissed, LookupError, ValueError, OSError, subprocess.SubprocessError) as error:
            return False, f"{type(error).__name__}: {error}"
        self.usable = passed and case not in LEAVES_OTHERS
        return passed, detail


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="prod2", help="a provisioned lab host; default: prod2")
    parser.add_argument("--again", action="store_true", help="repeat cases that passed")
    parser.add_argument("--list", action="store_true", help="show the cases and end")
    parser.add_argument("case", nargs="*", help="a case, or what one begins with: killed")
    options = parser.parse_args()
    wanted = [case for case in CASES if not options.case or any(case.startswith(word) for word in options.case)]
    if options.list or not wanted:
        print("\n".join(CASES))
        return 0 if options.list else 2
    runner, record, failed = Runner(Proof(LabHost(options.host))), proofs.Proofs(), []
    for case in wanted:
        name = f"deploy: {case}"
        digest = record.digest(INPUTS)
        if record.done(name, digest) and not options.again:
            print(f"{case}: passed before with the same inputs", flush=True)
            continue
        print(f"{case} ...", flush=True)
        began = time.monotonic()
        passed, detail = runner.run(case)
        detail += f"; load {os.getloadavg()[0]:.0f}"
        record.record(name, "passed" if passed else "failed", detail, digest=digest, seconds=time.monotonic() - began)
        print(f"{case}: {'passed' if passed else 'FAILED'}: {detail}", flush=True)
        failed += [] if passed else [case]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
