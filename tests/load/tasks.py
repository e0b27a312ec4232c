#!/usr/bin/env python3
"""Send tasks of the sample backend all the time, and count how often each was done. Runs in a container of the backend.

Argument: how many tasks a second, until SIGTERM. Their durations are 0.1 to 20 seconds; at 0.4 a second they keep less
than two processes busy. In the end some are sent once more with the same id, as a broker delivers the task of a worker
that died: the backend's lock of 600 s per task id has to drop them. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from urllib.parse import quote

QUEUE, TASK, SLEPT = "health_check", "sample.sleep", "sample:slept:{}"
DURATIONS = (0.1, 0.1, 0.2, 0.5, 1, 2, 5, 20)
WAIT = 90.0  # seconds for the last of them
AGAIN = 5  # tasks that are delivered twice


class Tasks:
    """Sends tasks, and knows how often each came to its end."""

    def __init__(self, producer: object, app: object, cache: object) -> None:
        self.producer, self.app, self.cache = producer, app, cache
        self.sent: dict[str, float] = {}

    def send(self, duration: float, task: str = "") -> None:
        """Send a task; with an id, one that was sent before."""
        task = task or str(uuid.uuid4())
        message = self.app.amqp.as_task_v2(task, TASK, args=[duration])
        headers = {"headers": message.headers, **message.properties}
        self.producer.publish(message.body, exchange="", routing_key=QUEUE, serializer="json", **headers)
        self.sent[task] = duration

    def counts(self) -> dict[str, int]:
        found = self.cache.mget([SLEPT.format(task) for task in self.sent]) if self.sent else []
        return dict(zip(self.sent, (int(number or 0) for number in found), strict=True))


def result(sent: Mapping[str, float], counts: Mapping[str, int], again: Iterable[str]) -> dict:
    """The summary; `again`: the tasks that were sent a second time, and must be done once all the same."""
    return {
        "sent": len(sent),
        "done": sum(count == 1 for count in counts.values()),
        "twice": sum(count > 1 for count in counts.values()),
        "missing": sorted(sent[task] for task, count in counts.items() if not count),
        "redelivered": len(list(again)),
        "redelivered_and_dropped": sum(counts[task] == 1 for task in again),
    }


def main() -> None:
    import redis
    from celery import Celery

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    rate = float(sys.argv[1])
    password, address = os.environ["DRAGONFLY_PASSWORD"], os.environ.get("DRAGONFLY_URL", "cache:6379")
    app = Celery("load", broker=f"redis://default:{quote(password, safe='')}@{address}/0", set_as_current=False)
    cache = redis.Redis(address.partition(":")[0], 6379, password=password)
    begin = time.monotonic()
    with app.connection_for_write() as connection:
        tasks = Tasks(connection.Producer(), app, cache)
        while not ended.is_set():
            tasks.send(random.choice(DURATIONS))
            ended.wait(max(begin + len(tasks.sent) / rate - time.monotonic(), 0))
        ends = time.monotonic() + WAIT
        while not all(tasks.counts().values()) and time.monotonic() < ends:
            time.sleep(1)
        again = [task for task, duration in tasks.sent.items() if duration < 1][-AGAIN:]
        for task in again:
            tasks.send(tasks.sent[task], task)
        time.sleep(5)  # for what would be done a second time
        print(json.dumps(result(tasks.sent, tasks.counts(), again)))


if __name__ == "__main__":
    main()
