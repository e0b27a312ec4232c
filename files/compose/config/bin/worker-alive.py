"""Succeeds when this container's Celery worker answers a ping and its pool has a process that stays alive.

`celery inspect ping` would import the whole application: 11 CPU seconds and 275 MiB, inside the memory limit of the
worker that it checks. This sends the same message by Celery's messaging library and imports nothing of the application.

The ping proves that the worker's main process runs and reaches the broker. It does not prove that tasks are executed:
if the pool's processes die one after another, the main process still answers. So the check also reads its children.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote

#: A younger pool process may be one of many that die at their start: Celery kills one that is not up after 4 s.
SETTLED_SECONDS = 6.0
PING_SECONDS = 8.0


def seconds_since_start(stat: str, uptime: float, ticks: int) -> float:
    """Age of the process that a line of /proc/PID/stat describes."""
    return uptime - int(stat.rpartition(")")[2].split()[19]) / ticks


def settled_children(proc: Path, parent: int = 1, settled: float = SETTLED_SECONDS) -> list[int]:
    """The running children of a process that are older than SETTLED_SECONDS."""
    uptime = float((proc / "uptime").read_text().split()[0])
    found = []
    for entry in proc.glob("[0-9]*/stat"):
        try:
            stat = entry.read_text()
        except OSError:  # gone by now
            continue
        state, owner = stat.rpartition(")")[2].split()[:2]
        age = seconds_since_start(stat, uptime, os.sysconf("SC_CLK_TCK"))
        if int(owner) == parent and state not in "ZX" and age >= settled:
            found.append(int(entry.parent.name))
    return found


def pinged(url: str, worker: str) -> bool:
    """Whether the worker of that name answers. Raises what the connection raises."""
    from kombu import Connection
    from kombu.pidbox import Mailbox

    options = {"socket_connect_timeout": PING_SECONDS, "socket_timeout": PING_SECONDS, "max_retries": 0}
    with Connection(url, connect_timeout=PING_SECONDS, transport_options=options) as connection:
        mailbox = Mailbox("celery", type="fanout", accept=["json"])
        replies = mailbox(connection).call([worker], "ping", timeout=PING_SECONDS)
    return any(worker in reply for reply in replies or [])


def main() -> None:
    """Exit 0 if the worker is alive, otherwise 1 with the problem in one line."""
    # The worker is process 1, because with-secrets.sh executes it.
    if not settled_children(Path("/proc")):
        sys.exit(f"no pool process is older than {SETTLED_SECONDS:.0f} s: they die at their start, or memory ran out")
    password = Path("/run/secrets/DRAGONFLY_PASSWORD").read_text(encoding="utf-8").rstrip("\n")
    url = f"redis://default:{quote(password, safe='')}@{os.environ.get('DRAGONFLY_URL', 'cache:6379')}/0"
    worker = f"celery@{socket.gethostname()}"
    try:
        if not pinged(url, worker):
            sys.exit(f"{worker} does not answer within {PING_SECONDS:.0f} s")
    except Exception as error:  # any error of the client; the message contains no password
        sys.exit(f"the broker does not answer: {type(error).__name__}")


if __name__ == "__main__":
    main()
