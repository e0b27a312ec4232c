"""Let this container's Celery worker finish: it takes no further tasks, and this waits for those that it runs.

Argument: for how many seconds to wait. Shows a line when the number of tasks changes, and last a JSON object:
{"cut": [{"id", "name", "seconds"}]}, the tasks that still run, and for how long they have run. Exit status 1: the
worker does not answer.

By Celery's messaging library, as worker-alive.py: the application would need seconds and memory to be imported.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from urllib.parse import quote

ANSWER_SECONDS = 3.0
SILENT_SECONDS = 30.0  # a worker that answers nothing for so long does not answer
EVERY = 0.5


class Worker:
    """This container's worker, by its control messages."""

    def __init__(self, connection: object, name: str) -> None:
        from kombu.pidbox import Mailbox

        self.mailbox = Mailbox("celery", type="fanout", accept=["json"])(connection)
        self.name = name

    def ask(self, command: str, **arguments: object) -> object:
        """A command's answer, repeated until there is one. Raises TimeoutError."""
        ends = time.monotonic() + SILENT_SECONDS
        while True:
            replies = self.mailbox.call([self.name], command, arguments, timeout=ANSWER_SECONDS) or []
            for reply in replies:
                if self.name in reply:
                    return reply[self.name]
            if time.monotonic() > ends:
                raise TimeoutError(f"{self.name} does not answer {command}")

    def stop_consuming(self) -> None:
        """Take no further task from any queue, also after the connection to the broker was lost and made again."""
        for queue in self.ask("active_queues") or []:
            self.ask("cancel_consumer", queue=queue["name"])

    def tasks(self) -> list[dict]:
        """The tasks that run or have been received to run now; those for a later time go back when it stops."""
        found = {task["id"]: task for command in ("reserved", "active") for task in self.ask(command) or []}
        return list(found.values())


def wait(worker: Worker, seconds: float, show: object = print) -> list[dict]:
    """Wait until the worker has no task; those that are left after the limit."""
    ends = time.monotonic() + seconds
    before = None
    empty = 0
    while True:
        tasks = worker.tasks()
        empty = 0 if tasks else empty + 1
        if empty == 2 or (tasks and time.monotonic() > ends):  # twice: a task may just have come from the queue
            return [
                {
                    "id": task["id"],
                    "name": task.get("name", ""),
                    "seconds": round(time.time() - (task.get("time_start") or time.time())),
                }
                for task in tasks
            ]
        if len(tasks) != before:
            show(f"{len(tasks)} tasks left", flush=True)
            before = len(tasks)
        time.sleep(EVERY)


def main() -> None:
    """Exit 0 with the result, or 1 with the problem in one line."""
    from kombu import Connection

    password = Path("/run/secrets/DRAGONFLY_PASSWORD").read_text(encoding="utf-8").rstrip("\n")
    url = f"redis://default:{quote(password, safe='')}@{os.environ.get('DRAGONFLY_URL', 'cache:6379')}/0"
    options = {"socket_connect_timeout": 10, "socket_timeout": 10}
    try:
        with Connection(url, transport_options=options) as connection:
            worker = Worker(connection, f"celery@{socket.gethostname()}")
            worker.stop_consuming()
            print(json.dumps({"cut": wait(worker, float(sys.argv[1]))}), flush=True)
    except Exception as error:  # any error of the client; the text of some contains the broker's address
        sys.exit(
            str(error) if isinstance(error, TimeoutError) else f"the broker does not answer: {type(error).__name__}"
        )


if __name__ == "__main__":
    main()
