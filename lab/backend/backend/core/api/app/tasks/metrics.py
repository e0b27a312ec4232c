"""Celery's metrics, as OpenMates has them: every process of a worker tries to serve its own; the first has the port."""

import contextlib
import os

from celery import signals
from prometheus_client import Counter, start_http_server

FAILURES = Counter("celery_task_failures_total", "Tasks that failed.", ("task_name", "queue"))


@signals.worker_process_init.connect
def _serve(**_: object) -> None:
    with contextlib.suppress(OSError):  # another process of this worker serves its own
        start_http_server(int(os.environ.get("CELERY_METRICS_PORT", "9101")))


@signals.task_failure.connect
def _count(sender: object = None, **_: object) -> None:
    delivery = getattr(getattr(sender, "request", None), "delivery_info", None) or {}
    FAILURES.labels(getattr(sender, "name", "unknown"), delivery.get("routing_key") or "unknown").inc()
