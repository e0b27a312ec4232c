#!/usr/bin/env python3
"""Keeps the record of the slow proofs (make faults, make real, make genuine ...), case by case.

Each case has one row in docs/proofs.md: the last result, when, at which commit and on what machine. A proof that is cut
off continues where it stopped: `done` is true for a case that passed with the same inputs. The digest of those inputs
is kept in the lab's state, which belongs to this machine alone: a row that came with a checkout skips nothing.

    lab/proofs.py done CASE [--inputs PATH ...] [--fact TEXT ...]         exit code 0: passed with these inputs
    lab/proofs.py record CASE passed|failed [--detail TEXT] [--seconds N] [--inputs ...] [--fact ...]
    lab/proofs.py run CASE [--inputs ...] [--fact ...] -- COMMAND ...     do it unless it is done, and record it
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ("passed", "failed")
HEADER = """\
# Proofs

The last result of each slow proof, which `make test` leaves out. Written by `lab/proofs.py`; do not edit the table.
`+changes` after a commit: the tree had changes that were not committed.

| case | result | date | commit | machine | duration | detail |
|---|---|---|---|---|---|---|
"""


class Proofs:
    """The table and this machine's memory of what passed with which inputs."""

    def __init__(self, root: Path = ROOT, state: Path | None = None) -> None:
        self.root = root
        self.table = root / "docs/proofs.md"
        self.state = (state or root / ".lab") / "proofs.json"

    def digest(self, inputs: Iterable[str] = (), facts: Iterable[str] = ()) -> str:
        """A short digest of the files below some paths of the project (all that git does not ignore), and of facts that
        are in no file, such as an image's id. No paths: the whole project without its documentation."""
        paths = list(inputs) or [".", ":(exclude)docs", ":(exclude)*.md"]
        names = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths).split("\0")
        result = hashlib.sha256()
        for name in sorted({name for name in names if name and name != "docs/proofs.md"}):
            file = self.root / name
            content = bytes(file.readlink()) if file.is_symlink() else file.read_bytes() if file.is_file() else b""
            result.update(f"{name}\0{len(content)}\0".encode() + content)
        for fact in facts:
            result.update(f"\0{fact}".encode())
        return result.hexdigest()[:16]

    def done(self, case: str, digest: str) -> bool:
        """Whether the case passed with these inputs on this machine."""
        return self._remembered().get(case) == digest

    def record(
        self, case: str, result: str, detail: str = "", *, digest: str = "", seconds: float | None = None
    ) -> None:
        """Replace or append the case's row, and remember its inputs if it passed."""
        if result not in RESULTS:
            raise ValueError(f"the result of {case} is {result!r}; it must be one of {', '.join(RESULTS)}")
        if not case or set(case) & set("|\n"):
            raise ValueError(f"{case!r} cannot be the name of a case: it must be one line without |")
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
        text = " ".join(detail.split()).replace("|", "/")
        row = [case, result, now, self.commit(), machine(), "" if seconds is None else duration(seconds), text]
        with self._lock():
            rows = {cells[0]: cells for cells in self._rows()}
            rows[case] = row
            lines = [HEADER, *("| " + " | ".join(cells) + " |\n" for cells in sorted(rows.values()))]
            _write(self.table, "".join(lines))
            remembered = self._remembered()
            remembered.pop(case, None)
            if result == "passed" and digest:
                remembered[case] = digest
            _write(self.state, json.dumps(remembered, indent=2, sort_keys=True) + "\n")

    def _rows(self) -> Iterator[list[str]]:
        if not self.table.exists():
            return
        _, _, body = self.table.read_text(encoding="utf-8").partition("|---|---|---|---|---|---|---|\n")
        for line in body.splitlines():
            if line.startswith("| "):
                yield [cell.strip() for cell in line.strip().strip("|").split("|")]

    def _remembered(self) -> dict[str, str]:
        try:
            return json.loads(self.state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def commit(self) -> str:
        changed = self._git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)docs/proofs.md")
        return self._git("rev-parse", "--short=10", "HEAD").strip() + ("+changes" if changed.strip() else "")

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def machine() -> str:
    """What the proof ran on, without a name: "2 cores, 23 GiB, x86_64"."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}"


def duration(seconds: float) -> str:
    """41 s, 7 min 05 s, 2 h 03 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: a proof that is cut off must not leave half a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(0o644)
    Path(name).replace(path)


def done(case: str, inputs: Iterable[str] = (), facts: Iterable[str] = ()) -> bool:
    """Whether the case passed here with these inputs."""
    proofs = Proofs()
    return proofs.done(case, proofs.digest(inputs, facts))


def record(
    case: str,
    result: str,
    detail: str = "",
    *,
    inputs: Iterable[str] = (),
    facts: Iterable[str] = (),
    seconds: float | None = None,
) -> None:
    """Record a case's result; see Proofs.record."""
    proofs = Proofs()
    proofs.record(case, result, detail, digest=proofs.digest(inputs, facts), seconds=seconds)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the head of this file."""
    given = sys.argv[1:] if arguments is None else arguments
    command: list[str] = []
    if "--" in given:
        command = given[given.index("--") + 1 :]
        given = given[: given.index("--")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["done", "record", "run"])
    parser.add_argument("case")
    parser.add_argument("result", nargs="?", choices=RESULTS, help="for record")
    parser.add_argument("--inputs", nargs="*", default=[], metavar="PATH", help="default: all but documentation")
    parser.add_argument("--fact", nargs="*", default=[], metavar="TEXT", help="what matters and is in no file")
    parser.add_argument("--detail", default="")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(given)
    if (options.verb == "record") != bool(options.result):
        parser.error("record needs a result, and no other verb has one")
    if (options.verb == "run") != bool(command):
        parser.error("run needs a command after --, and no other verb has one")
    proofs = Proofs()
    digest = proofs.digest(options.inputs, options.fact)
    if options.verb == "record":
        proofs.record(options.case, options.result, options.detail, digest=digest, seconds=options.seconds)
        return 0
    if proofs.done(options.case, digest):
        print(f"{options.case}: passed before with the same inputs", flush=True)
        return 0
    if options.verb == "done":
        return 1
    start = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    result = "failed" if code else "passed"
    proofs.record(options.case, result, options.detail, digest=digest, seconds=time.monotonic() - start)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
