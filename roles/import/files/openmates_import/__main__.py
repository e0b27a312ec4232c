# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of an import: the result as JSON on standard output, or a reason and status 1."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import typing as t
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from openmates_backup.problem import Problem

from openmates_import import export, installer, server


def say(text: str) -> None:
    print(f"progress: {text}", file=sys.stderr, flush=True)


def old(options: argparse.Namespace) -> t.Any:
    return {
        "look": lambda: installer.look(options.project),
        "rehearse": lambda: export.rehearse(installer.Installer(options.project), say),
        "stop": lambda: installer.Installer(options.project).stop(),
        "export": lambda: export.export_all(installer.Installer(options.project), say),
        "clean": export.clean,
    }[options.step]()


def new(options: argparse.Namespace) -> t.Any:
    here = server.Server(server.config_of(options.docker_root), options.database)
    return {
        "look": here.look,
        "begin": lambda: here.begin(options.origin),
        "put": lambda: here.put(json.load(sys.stdin), say),
        "end": lambda: here.end(options.origin, options.rehearsal),
    }[options.step]()


def main() -> int:
    parser = argparse.ArgumentParser()
    sides = parser.add_subparsers(required=True)
    side = sides.add_parser("old")
    side.add_argument("step", choices=["look", "rehearse", "stop", "export", "clean"])
    side.add_argument("--project", default="", help="its Compose project, where there are several")
    side.set_defaults(work=old)
    side = sides.add_parser("new")
    side.add_argument("step", choices=["look", "begin", "put", "end"])
    side.add_argument("--docker-root", default="/var/lib/docker")
    side.add_argument("--database", default="directus")
    side.add_argument("--from", dest="origin", default="", help="the old server's name")
    side.add_argument("--rehearsal", action="store_true")
    side.set_defaults(work=new)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the copy of Vault, too
    try:
        print(json.dumps(options.work(options)))
    except Problem as problem:
        print(problem)
        return 1
    except OSError as error:
        print(f"{error.filename or 'A file'} cannot be read or written: {error.strerror}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
