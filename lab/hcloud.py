#!/usr/bin/env python3
"""Proves playbooks/create_server.yml with the real collection hetzner.hcloud, against a local server (tests/hcloud).

The `ansible` package for Python 3.11 has a version of the collection that Hetzner's API breaks, so an older Python
gives way to the one of the lab's Debian 13 image, in a container. The environment is kept in .cache/hcloud, made from
requirements.lock and from what an operator installs for this playbook. The result goes to docs/proofs.md; a proof
that passed is not repeated unless its inputs changed or FORCE=1. With arguments, which go to pytest, nothing is
recorded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import proofs

ROOT = Path(__file__).resolve().parents[1]
CASE = "hcloud: create_server"
#: The first Python whose `ansible` package has a collection that works.
NEEDED = (3, 12)
IMAGE = "openmates-lab/python:latest"
LIBRARIES = "roles/hetzner/files/requirements.txt"
INPUTS = [
    "playbooks", "roles/hetzner", "roles/settings", "roles/preflight", "roles/bootstrap", "plugins", "tests/hcloud",
    "tests/conftest.py", "requirements.lock", "lab/hcloud.py", ":(exclude)*.md",
]  # fmt: skip
#: Arguments: the directory of the environment, then those of pytest.
SCRIPT = f"""
set -eu
venv=$1
shift
if ! cat requirements.lock {LIBRARIES} | cmp -s - "$venv/.complete"; then
  lab/venv.sh "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement {LIBRARIES}
  cat requirements.lock {LIBRARIES} > "$venv/.complete"
fi
"$venv/bin/ansible-galaxy" collection list hetzner.hcloud
"$venv/bin/python" --version
exec "$venv/bin/pytest" -p no:cacheprovider tests/hcloud "$@"
"""


def command(arguments: Sequence[str], version: Sequence[int] = sys.version_info) -> list[str]:
    """The command that runs the tests: here, or in a container if this Python is too old."""
    here = tuple(version[:2]) >= NEEDED
    venv = f".cache/hcloud/venv-{'here' if here else 'container'}"
    script = ["sh", "-c", SCRIPT, "sh", venv, *arguments]
    if here:
        return script
    user = f"{os.getuid()}:{os.getgid()}"
    # As in the builds of the lab's images, pip reaches its index as this machine does.
    options = ["--rm", "--init", "--network", "host", "--user", user, "--env", "HOME=/tmp", "--workdir", str(ROOT)]
    return ["docker", "run", *options, "--volume", f"{ROOT}:{ROOT}", IMAGE, *script]


def detail(output: str) -> str:
    """What the record says: the versions, and pytest's last line."""
    collection = re.search(r"hetzner\.hcloud +([0-9.]+)", output)
    python = re.search(r"^Python ([0-9.]+)$", output, re.MULTILINE)
    last = next(
        (line.strip("= ") for line in reversed(output.splitlines()) if re.search(r"\d (passed|failed|error)", line)), ""
    )
    versions = f"hetzner.hcloud {collection[1] if collection else '?'}, Python {python[1] if python else '?'}"
    return f"{versions}: {last or 'no test ran'}"


def main(arguments: Sequence[str]) -> int:
    """Returns 0, or 1 if a test failed."""
    if not arguments and os.environ.get("FORCE") != "1" and proofs.done(CASE, INPUTS):
        print(f"{CASE}: passed before with the same inputs")
        return 0
    if sys.version_info < NEEDED and not shutil.which("docker"):
        print(f"{CASE}: needs Python {'.'.join(map(str, NEEDED))} or later, or Docker", file=sys.stderr)
        return 1
    start, lines = time.monotonic(), []
    process = subprocess.Popen(
        command(arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line)
    failed = process.wait() != 0
    if not arguments:
        result = "failed" if failed else "passed"
        proofs.record(CASE, result, detail("".join(lines)), inputs=INPUTS, seconds=time.monotonic() - start)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
