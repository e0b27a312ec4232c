#!/usr/bin/env python3
"""Send tasks of the sample backend all the time, and count how often each was done. Runs in a container of the backend.

Arguments: for how many seconds to send, and how many tasks a second. Their durations are 0.1 to 20 seconds; together
they keep less than two processes busy. Prints one JSON object: sent, done (once), twice or more, missing.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import uuid
from urllib.parse import quote

QUEUE, TASK, SLEPT = "health_check", "sample.sleep", "sample:slept:{}"
DURATIONS = (0.1, 0.1, 0.2, 0.5, 1, 2, 5, 20)
WAIT = 240.0  # seconds for the last of them


def main() -> None:
    import redis
    from celery import Celery

    seconds, rate = float(sys.argv[1]), float(sys.argv[2])
    password, address = os.environ["DRAGONFLY_PASSWORD"], os.environ.get("DRAGONFLY_URL", "cache:6379")
    app = Celery("load", broker=f"redis://default:{quote(password, safe='')}@{address}/0", set_as_current=False)
    cache = redis.Redis(address.partition(":")[0], 6379, password=password)
    sent: dict[str, float] = {}
    begin = time.monotonic()
    with app.connection_for_write() as connection:
        producer = connection.Producer()
        while time.monotonic() - begin < seconds:
            task, duration = str(uuid.uuid4()), random.choice(DURATIONS)
            message = app.amqp.as_task_v2(task, TASK, args=[duration])
            headers = {"headers": message.headers, **message.properties}
            producer.publish(message.body, exchange="", routing_key=QUEUE, serializer="json", **headers)
            sent[task] = duration
            print(f"{len(sent)} sent", file=sys.stderr, flush=True)
            time.sleep(max(begin + len(sent) / rate - time.monotonic(), 0))
    ends = time.monotonic() + WAIT
    while True:
        counts = dict(
            zip(sent, map(int, (n or 0 for n in cache.mget([SLEPT.format(task) for task in sent]))), strict=True)
        )
        if all(counts.values()) or time.monotonic() > ends:
            break
        time.sleep(1)
    time.sleep(5)  # for those that would be done a second time
    counts = dict(zip(sent, map(int, (n or 0 for n in cache.mget([SLEPT.format(task) for task in sent]))), strict=True))
    result = {
        "sent": len(sent),
        "done": sum(count == 1 for count in counts.values()),
        "twice": sum(count > 1 for count in counts.values()),
        "missing": sorted(sent[task] for task, count in counts.items() if not count),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
