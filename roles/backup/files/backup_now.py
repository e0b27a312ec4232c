#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start openmates-backup.service, or join one that runs, and wait for its end; print the result as JSON.

With the argument `prove` it is openmates-backup-proof.service. Exit status 1: the reason is on standard output.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time

PROOF = sys.argv[1:] == ["prove"]
UNIT = "openmates-backup-proof.service" if PROOF else "openmates-backup.service"
LAST = pathlib.Path("/var/lib/openmates/backup") / ("proof.json" if PROOF else "last.json")
LOOK_EVERY = 2.0


def journal(begun: float, lines: int) -> list[str]:
    """The last lines that the unit's program printed."""
    subprocess.run(["journalctl", "--sync"], check=False)  # or lines of a program that has just ended may be missing
    command = [
        "journalctl",
        "--quiet",
        "--output=cat",
        f"--since=@{int(begun)}",
        f"--lines={lines}",
        f"_SYSTEMD_UNIT={UNIT}",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def main() -> int:
    before = LAST.stat().st_mtime_ns if LAST.exists() else 0
    begun = time.time()
    start = subprocess.Popen(["systemctl", "start", UNIT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while start.poll() is None:
        time.sleep(LOOK_EVERY)
        for line in journal(begun, 1):
            print(f"progress: {line}", file=sys.stderr, flush=True)
    if not LAST.exists() or LAST.stat().st_mtime_ns == before:
        last = journal(begun, 5) or [start.stdout.read().strip()]
        print("\n".join([f"{UNIT} ended without a result:", *last]))
        return 1
    result = json.loads(LAST.read_text())
    print(result["problem"] or json.dumps(result))
    return 1 if result["problem"] else 0


if __name__ == "__main__":
    sys.exit(main())
