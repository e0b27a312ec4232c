#!/usr/bin/python3 -I
"""Dragonfly's command line in front of Valkey.

Reads Dragonfly's flags (with their absl spellings and --flagfile), refuses what it does not know or cannot honour, and
becomes valkey-server. The configuration, which holds the password, reaches Valkey through a pipe: never through argv,
the environment or a file.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

#: Flag -> value it has when not given. A bool marks a flag that needs no value.
FLAGS: dict[str, str | bool] = {
    "alsologtostderr": False,
    "bind": "",
    "cache_mode": False,
    "dbfilename": "dump-{timestamp}",
    "dbnum": "16",
    "default_lua_flags": "",
    "df_snapshot_format": True,
    "dir": "",
    "hz": "100",
    "logtostderr": False,
    "maxclients": "64000",
    "maxmemory": "0",
    "port": "6379",
    "primary_port_http_enabled": True,
    "proactor_threads": "0",
    "requirepass": "",
    "snapshot_cron": "",
    "version_check": True,
}
#: Where Dragonfly's log is when no flag sends it to standard error: in a container, gone with it.
LOG_FILE = "/tmp/dragonfly.INFO"  # noqa: S108 - Dragonfly's own place
MEBIBYTE = 1024 * 1024
BYTES_PER_THREAD = 256 * MEBIBYTE
#: Seconds between snapshots for the schedules that Valkey, which has no clock times, can express.
_EVERY_MINUTES = re.compile(r"^(?:\*|\*/(\d+)) \* \* \* \*$")
_EVERY_HOURS = re.compile(r"^\d+ (?:\*|\*/(\d+)) \* \* \*$")


class FlagError(ValueError):
    """A command line that Dragonfly would refuse, or that this stand-in cannot honour. The text says which and why."""


def parse(arguments: list[str]) -> dict[str, str | bool]:
    """Read absl-style flags, flag files included.

    Accepts --flag=value, --flag value, -flag, --noflag and --flagfile (one flag a line, # for comments). The last one
    given wins. Returns every known flag with its value or default; raises FlagError for anything else.
    """
    values = dict(FLAGS)
    queue = list(arguments)
    files = 0
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("-"):
            raise FlagError(f"unexpected argument {argument!r}: flags start with --")
        name, given, value = argument.lstrip("-").partition("=")
        if name == "flagfile":
            files += 1
            if files > 10:
                raise FlagError("flag files include one another")
            queue = _read_flagfile(value if given else _next(queue, name)) + queue
        elif name in FLAGS and isinstance(FLAGS[name], bool):
            values[name] = _boolean(name, value) if given else True
        elif name.startswith("no") and isinstance(FLAGS.get(name[2:]), bool) and not given:
            values[name[2:]] = False
        elif name in FLAGS:
            values[name] = value if given else _next(queue, name)
        else:
            raise FlagError(f"unknown command line flag '{name}'")
    return values


def _next(queue: list[str], name: str) -> str:
    if not queue:
        raise FlagError(f"missing the value for the flag '{name}'")
    return queue.pop(0)


def _boolean(name: str, text: str) -> bool:
    if text.lower() in ("true", "t", "yes", "y", "1"):
        return True
    if text.lower() in ("false", "f", "no", "n", "0"):
        return False
    raise FlagError(f"illegal value {text!r} for the boolean flag '{name}'")


def _read_flagfile(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise FlagError(f"cannot read flag file {path}: {error.strerror}") from None
    return [line for line in lines if line and not line.startswith("#")]


def size(text: str) -> int:
    """Bytes in a size such as 512mb, 1.5G, 2GiB or 1048576 (factors of 1024). Raises FlagError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if not match:
        raise FlagError(f"maxmemory: {text!r} is not a size")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))


def snapshot_seconds(cron: str) -> int:
    """Seconds between snapshots for a cron schedule. Raises FlagError for one that is no plain interval."""
    text = " ".join(cron.strip().strip("\"'").split())
    for pattern, unit in ((_EVERY_MINUTES, 60), (_EVERY_HOURS, 3600)):
        match = pattern.match(text)
        if match and int(match[1] or 1) > 0:
            return unit * int(match[1] or 1)
    raise FlagError(f"snapshot_cron {cron!r}: this stand-in knows only every N minutes (*/N * * * *) or N hours")


def _number(values: dict[str, str | bool], name: str, low: int, high: int) -> int:
    text = str(values[name])
    if not text.isdigit() or not low <= int(text) <= high:
        raise FlagError(f"illegal value {text!r} for the flag '{name}': a whole number from {low} to {high}")
    return int(text)


def _quoted(text: str) -> str:
    """A value as Valkey's configuration syntax reads it back unchanged."""
    plain = (c if " " < c <= "~" and c not in '"\\' else "".join(f"\\x{b:02x}" for b in c.encode()) for c in text)
    return '"' + "".join(plain) + '"'


def configuration(values: dict[str, str | bool], cores: int) -> str:
    """Valkey's configuration for these flags.

    cores: processors that Dragonfly would count, its default number of threads. Raises FlagError where Dragonfly would
    refuse to start, as with less than 256 MiB of maxmemory for each thread.
    """
    threads = _number(values, "proactor_threads", 0, 1024) or cores
    memory = size(str(values["maxmemory"]))
    if 0 < memory < threads * BYTES_PER_THREAD:
        raise FlagError(
            f"there are {threads} threads, so {threads * BYTES_PER_THREAD // MEBIBYTE} MiB are required, "
            f"but maxmemory is {memory // MEBIBYTE} MiB"
        )
    lines = [
        f"port {_number(values, 'port', 1, 65535)}",
        f"bind {values['bind'] or '* -::*'}",
        # Dragonfly answers every client with the password, or every client if there is none.
        "protected-mode no",
        f"databases {_number(values, 'dbnum', 1, 1024)}",
        f"maxclients {min(_number(values, 'maxclients', 1, 1000000), 10000)}",
        f"io-threads {min(threads, 8)}",
        f"maxmemory {memory}",
        f"maxmemory-policy {'allkeys-lru' if values['cache_mode'] else 'noeviction'}",
        "daemonize no",
        f'logfile "{"" if values["logtostderr"] or values["alsologtostderr"] else LOG_FILE}"',
    ]
    if values["dir"]:
        lines.append(f"dir {_quoted(str(values['dir']))}")
    name = str(values["dbfilename"]).replace("{timestamp}", "").strip("-_.")
    if name and values["df_snapshot_format"]:
        raise FlagError(
            "a snapshot in Dragonfly's own format is several files, which are not replaced at once; "
            "this stand-in has one file: use --nodf_snapshot_format"
        )
    if name:
        lines += [f"dbfilename {_quoted(name + '.rdb')}", "shutdown-on-sigterm save", "shutdown-on-sigint save"]
    cron = str(values["snapshot_cron"])
    lines.append(f"save {snapshot_seconds(cron)} 1" if cron else 'save ""')
    if values["requirepass"]:
        lines.append(f"requirepass {_quoted(str(values['requirepass']))}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Become valkey-server. Ends with status 1 and one clear line for a refused command line."""
    try:
        values = parse(arguments)
        text = configuration(values, len(os.sched_getaffinity(0)))
    except FlagError as error:
        sys.exit(f"dragonfly (lab stand-in): {error}")
    if values["version_check"]:
        # Dragonfly asks its makers for a newer version at its start and each day. The lab has no such host.
        sys.exit("dragonfly (lab stand-in): it would call out for a newer version: use --version_check=false")
    if values["logtostderr"] or values["alsologtostderr"]:
        print("dragonfly (lab stand-in): Valkey behind Dragonfly's command line", file=sys.stderr, flush=True)
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    os.dup2(reader, 0)
    os.execvp("valkey-server", ["valkey-server", "-"])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
