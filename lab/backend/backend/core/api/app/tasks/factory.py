"""Makes the Celery application, for the worker, for the scheduler and for the api that hands out tasks."""

from celery import Celery

from backend.core.api.app.settings import CacheSettings

QUEUE = "celery"
ROUND_TRIP = "sample.round_trip"
HEARTBEAT = "sample.heartbeat"
HEARTBEAT_EVERY = 10.0  # seconds


def make_app(cache: CacheSettings) -> Celery:
    """Return an application whose broker and result store are the cache."""
    app = Celery("openmates-sample", broker=cache.url, backend=cache.url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_expires=60,
        task_time_limit=20,
        worker_concurrency=2,
        worker_prefetch_multiplier=1,
        # Wait for a cache that comes later or is restarted, however long it takes.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2},
        redis_socket_timeout=3.0,
        redis_socket_connect_timeout=2.0,
        result_backend_transport_options={"retry_policy": {"timeout": 2.0}},
        # Without an expiry the beats of a long outage would all run when the worker comes back.
        beat_schedule={
            "heartbeat": {"task": HEARTBEAT, "schedule": HEARTBEAT_EVERY, "options": {"expires": HEARTBEAT_EVERY}}
        },
    )
    return app
