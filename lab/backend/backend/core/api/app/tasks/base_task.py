"""Runs a task once, however often the broker delivers it."""

import logging
from collections.abc import Callable

import redis
from celery import Task
from celery.exceptions import Ignore

PREFIX = "celery_task_dedup:"
SECONDS = 600
TIMEOUT = 2.0  # seconds

log = logging.getLogger(__name__)


class DedupedTask(Task):
    """Takes a lock per task id before the task runs, and does not give it back.

    A delivery that finds the lock is dropped, also when the first one died half-way: with acks_late and
    reject_on_worker_lost such a task comes back and is lost. Where the cache is away, the task is dropped too.
    """

    abstract = True

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run the task, unless it has been delivered before."""
        if not self.request.id:
            return super().__call__(*args, **kwargs)
        try:
            first = self._locked(lambda client, key: client.set(key, "1", nx=True, ex=SECONDS))
        except redis.RedisError as error:
            log.error("[Task %s ID:%s] DEDUP: lock acquisition failed (%s)", self.name, self.request.id, error)
            raise Ignore from None
        if not first:
            message = "[Task %s ID:%s] DEDUP: Duplicate task execution detected. Skipping"
            log.warning(message, self.name, self.request.id)
            return {"status": "deduplicated_skip", "task_id": self.request.id}
        return super().__call__(*args, **kwargs)

    def on_retry(self, exc: Exception, task_id: str, args: object, kwargs: object, einfo: object) -> None:
        """Give the lock back: a retry has the same id."""
        self._locked(lambda client, key: client.delete(key))
        super().on_retry(exc, task_id, args, kwargs, einfo)

    def _locked(self, use: Callable[[redis.Redis, str], object]) -> object:
        url = self.app.conf.broker_url
        with redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, protocol=2) as client:
            return use(client, PREFIX + self.request.id)
