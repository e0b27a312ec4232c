"""The Celery application that `celery -A backend.core.api.app.tasks.celery_config` runs as worker or as beat.

Importing it is as expensive as it is in the real backend (see heavy.py), also for `inspect ping`.
"""

import hashlib
import logging
import os
import secrets
import time
from datetime import timedelta

import httpx
from celery import Celery, Task, signals
from kombu import Queue

from backend.core.api.app import heavy, logs
from backend.core.api.app import settings as settings_module
from backend.core.api.app.services import Services, providers
from backend.core.api.app.tasks import metrics, queues  # noqa: F401 - the first connects signals

# A new process of the worker's pool needs longer than the four seconds after which Celery kills one that is not up.
CHILD_START_SECONDS = 4.3
SOCKET_TIMEOUT = 15  # seconds

log = logging.getLogger(__name__)
heavy.weigh_down(os.environ)
services = Services()

app = Celery(
    "openmates",
    broker=settings_module.broker_url(os.environ),
    backend=os.environ.get("CELERY_RESULT_BACKEND") or settings_module.broker_url(os.environ),
    task_cls="backend.core.api.app.tasks.base_task:DedupedTask",
)
app.conf.update(
    worker_concurrency=int(os.environ.get("CELERY_AUTOSCALE_MAX", "2")),
    task_queues=[Queue(name, exchange=name, routing_key=name) for name in queues.consumed(os.environ)],
    # A task without a queue goes nowhere.
    task_default_queue=None,
    task_default_exchange=None,
    task_default_routing_key=None,
    result_expires=3600,
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=10,  # then the worker ends
    broker_transport_options={
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "retry_on_timeout": True,
    },
    redis_socket_timeout=SOCKET_TIMEOUT,
    redis_socket_connect_timeout=SOCKET_TIMEOUT,
    redis_retry_on_timeout=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    beat_schedule={
        "check-all-apps": {
            "task": queues.CHECK_APPS,
            "schedule": timedelta(minutes=5),
            "options": {"queue": queues.DEFAULT},
        },
        "process-due-tasks": {
            "task": queues.DUE_TASKS,
            "schedule": timedelta(minutes=1),
            "options": {"queue": "persistence"},
        },
        # Without an expiry the beats of a long outage would all run when the worker comes back.
        "heartbeat": {
            "task": queues.HEARTBEAT,
            "schedule": timedelta(seconds=10),
            "options": {"queue": queues.DEFAULT, "expires": 10},
        },
    },
)


@app.task(name=queues.CHECK_APPS)
def check_all_apps() -> dict[str, str]:
    """Ask each App whether it lives, for /v1/health."""
    found = {}
    for name, url in services.settings.apps.items():
        try:
            alive = httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            alive = False
        found[name] = "healthy" if alive else "unhealthy"
        services.cache.set(f"health_check:app:{name}", {"status": found[name], "last_check": int(time.time())}, 900)
    return found


@app.task(name=queues.EMAIL_CODE)
def email_code(email: str, invite_code: str | None = None) -> None:
    """Make a code for an address, and mail it; the sample has no mail. Fails without Invoice Ninja's keys."""
    providers.invoice_ninja(services.vault, services.settings.development)
    services.cache.set(f"email_verification:{email}", f"{secrets.randbelow(10**6):06}", 1200)


@app.task(name=queues.DUE_TASKS)
def process_due_ai_tasks() -> None:
    """Do nothing, for which Invoice Ninja's keys are needed."""
    providers.invoice_ninja(services.vault, services.settings.development)


@app.task(name=queues.ROUND_TRIP, ignore_result=True)
def round_trip(ciphertext: str, key: str) -> None:
    """Prove that this worker reaches Vault with its own token, and the cache."""
    try:
        answer = hashlib.sha256(services.vault.decrypt(ciphertext).encode()).hexdigest()
    except Exception as error:
        answer = type(error).__name__
    services.cache.set(key, answer, 60)


@app.task(name=queues.HEARTBEAT, ignore_result=True)
def heartbeat() -> None:
    """Prove that beat sends tasks."""
    services.cache.set(queues.HEARTBEAT_KEY, repr(time.time()), 600)


@app.task(name=queues.SLEEP, bind=True)
def sleep(self: Task, seconds: float) -> float:
    """Keep a process of the worker busy, as a chat's answer does, and count how often this task came to its end."""
    time.sleep(seconds)
    if client := services.cache.client:
        client.incr(queues.SLEPT.format(self.request.id))
        client.expire(queues.SLEPT.format(self.request.id), 7200)
    return seconds


@signals.setup_logging.connect
def _set_up_logging(**_: object) -> None:
    # Connecting this signal also keeps Celery from setting up its own logging.
    logs.configure(services.settings.log_level, services.redactor)


@signals.worker_process_init.connect
def _start_child(**_: object) -> None:
    services.connect()
    time.sleep(float(os.environ.get("SAMPLE_CHILD_START_SECONDS", CHILD_START_SECONDS)))
    log.info("worker process is initialised")


@signals.task_failure.connect
def _say_failed(task_id: str, exception: BaseException, sender: object = None, **_: object) -> None:
    log.error("TASK_FAILED: %s, %s: %s", getattr(sender, "name", task_id), type(exception).__name__, exception)


@signals.celeryd_after_setup.connect
def _leave_out_banner(instance: object, **_: object) -> None:
    # The banner is many lines that no log parser understands.
    instance.quiet = True


@signals.worker_ready.connect
def _say_ready(**_: object) -> None:
    log.info("worker is ready; queues: %s", ", ".join(queues.consumed(os.environ)))


@signals.beat_init.connect
def _say_started(**_: object) -> None:
    log.info("scheduler has started")
