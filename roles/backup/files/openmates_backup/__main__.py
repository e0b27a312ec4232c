# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""openmates-backup: see docs/backup.md. Root only.

openmates-backup run               make a backup now; the timer starts openmates-backup.service, which does the same
openmates-backup prove             restore the newest snapshot where nothing can reach it, and compare it
openmates-backup list [--json]     the snapshots of this server, the newest first
openmates-backup status [--json]   the result of the last backup and of the last proof
openmates-backup restic ...        restic, with the repository and the password of this server
openmates-backup restore STEP      one step of a restore, for playbooks/restore.yml
openmates-backup move STEP         one step of a move, for playbooks/move.yml
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import typing as t

from openmates_backup import credentials, move, proof, proof_result, restic, run, state
from openmates_backup.config import CONFIG, Config
from openmates_backup.problem import Problem
from openmates_backup.repository import moment
from openmates_backup.restore import Request, Restore
from openmates_backup.restore_choice import LATEST


def make(config: Config, _options: argparse.Namespace) -> None:
    result = run.back_up(config)
    print(f"snapshot {result['snapshot'][:8]}: {size(result['added_bytes'])} added, in {result['duration']:.0f} s")


def prove(config: Config, _options: argparse.Namespace) -> None:
    result = proof.prove(config)
    print(f"snapshot {result['snapshot'][:8]}: {result['state']}, in {result['duration']:.0f} s", result["unproven"])


def clean(config: Config, _options: argparse.Namespace) -> None:
    proof.clean_up(config)


def show_snapshots(config: Config, options: argparse.Namespace) -> None:
    with restic.opened(config, credentials.secrets(run.LOGIN)) as opened:
        found = [described(snapshot) for snapshot in reversed(opened.snapshots())]
    if options.json:
        print(json.dumps(found))
        return
    for one in found:
        print(f"{one['id']}  {one['time']}  {size(one['bytes'])}, {one['files']} files")
    if not found:
        print(f"{config.repository} has no snapshot of {config.host} ({config.environment}) yet")


def described(snapshot: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    summary = snapshot.get("summary") or {}
    return {
        "id": snapshot["short_id"],
        "time": state.stamp(moment(snapshot["time"])),
        "bytes": summary.get("total_bytes_processed", 0),
        "added_bytes": summary.get("data_added_packed", 0),
        "files": summary.get("total_files_processed", 0),
    }


def show_status(config: Config, options: argparse.Namespace) -> None:
    found, proven = (state.read(config.directory / name) for name in (run.LAST, proof_result.RECORD))
    if options.json:
        now, good = time.time(), found.get("last_success") or {}
        age = now - good["seconds"] if good else None
        proven = {**proven, "age": now - proven["seconds"]} if proven else {}
        print(json.dumps({**found, "age": age, "configured": now - CONFIG.stat().st_mtime, "proof": proven}))
    elif not found:
        print("There was no backup yet")
    elif found["success"]:
        print(f"{found['ended']}: snapshot {found['snapshot'][:8]}, {size(found['added_bytes'])} added")
    else:
        good = found["last_success"] or {}
        print(f"{found['ended']}: failed. {found['problem']}\nLast good backup: {good.get('time', 'none')}")


def call_restic(config: Config, options: argparse.Namespace) -> None:
    with restic.opened(config, credentials.secrets(run.LOGIN)) as opened:
        print(opened.call(*options.arguments)[1], end="")


def take_step(config: Config, options: argparse.Namespace) -> None:
    restore = Restore(config, lambda text: print(f"progress: {text}", file=sys.stderr, flush=True))
    request = Request(
        options.snapshot,
        tuple(name for name in options.only.split(",") if name),
        options.origin,
        options.replace,
        {name: int(number) for name, _, number in (pair.partition("=") for pair in options.major) if number},
    )
    steps = {
        "plan": lambda: restore.plan(request),
        "begin": lambda: restore.begin(request),
        "vault": lambda: restore.note_vault(options.seconds),
        "put": restore.put,
        "prove": restore.prove,
        "end": restore.end,
    }
    try:
        print(json.dumps(steps[options.step]()))
    except OSError as error:
        raise Problem(f"{error.filename or 'A file'} cannot be read or written: {error.strerror}.") from None


def take_part(config: Config, options: argparse.Namespace) -> None:
    def tell(text: str) -> None:
        print(f"progress: {text}", file=sys.stderr, flush=True)

    steps = {
        "hand-over": lambda: move.hand_over(config, tell),
        "prepare": lambda: move.prepare(config),
        "fetch": lambda: move.fetch(config, options.snapshot),
        "take-over": lambda: move.take_over(config, options.snapshot, tell),
    }
    try:
        print(json.dumps(steps[options.step]()))
    except OSError as error:
        raise Problem(f"{error.filename or 'A file'} cannot be read or written: {error.strerror}.") from None


def size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="openmates-backup", description="Back up this server, and show its backups.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="make a backup now").set_defaults(work=make)
    commands.add_parser("prove", help="prove that the newest snapshot can be restored").set_defaults(work=prove)
    commands.add_parser("clean", help="remove what a proof left that was killed").set_defaults(work=clean)
    for name, work, meaning in (
        ("list", show_snapshots, "the snapshots of this server"),
        ("status", show_status, "the result of the last backup"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("--json", action="store_true", help="for programs")
        command.set_defaults(work=work)
    command = commands.add_parser("restic", help="restic, with the repository and the password of this server")
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="restic's own")
    command.set_defaults(work=call_restic)
    command = commands.add_parser("restore", help="one step of a restore, for playbooks/restore.yml")
    command.add_argument("step", choices=["plan", "begin", "vault", "put", "prove", "end"])
    command.add_argument("--snapshot", default=LATEST, help="an id")
    command.add_argument("--only", default="", help="names of parts, separated by commas")
    command.add_argument(
        "--from", dest="origin", default="", help="the host whose backup it is, if it is another one's"
    )
    command.add_argument("--replace", action="store_true", help="data that the server holds")
    command.add_argument("--major", action="append", default=[], help="the declared version of Postgres: SERVICE=17")
    command.add_argument("--seconds", type=float, default=0, help="how long the role vault took")
    command.set_defaults(work=take_step)
    command = commands.add_parser("move", help="one step of a move, for playbooks/move.yml")
    command.add_argument("step", choices=["hand-over", "prepare", "fetch", "take-over"])
    command.add_argument("--snapshot", default="", help="an id")
    command.set_defaults(work=take_part)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        options.work(Config.load(), options)
    except Problem as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
