"""The Celery application that `celery -A backend.core.api.app.tasks.celery_config` runs as worker or as beat."""

import logging
import os
from functools import cache as once

from celery import signals

from backend.core.api.app import logs
from backend.core.api.app.dependencies import scheduler
from backend.core.api.app.dependencies.cache import Cache
from backend.core.api.app.dependencies.vault import Vault
from backend.core.api.app.redact import Redactor
from backend.core.api.app.settings import SettingsError, load_celery, load_vault, secret_values
from backend.core.api.app.tasks import jobs
from backend.core.api.app.tasks.factory import HEARTBEAT, ROUND_TRIP, make_app

log = logging.getLogger(__name__)

try:
    settings = load_celery(os.environ)
except SettingsError as error:
    raise SystemExit(str(error)) from None

redactor = Redactor()
for _name, _value in secret_values(os.environ).items():
    redactor.register(_name, _value)

app = make_app(settings.cache)
app.set_default()
cache = Cache(settings.cache)


@once
def vault() -> Vault:
    """Return the connection to Vault; only the worker needs one, so beat starts without the variables."""
    return Vault(load_vault(os.environ), redactor)


@app.task(name=ROUND_TRIP)
def round_trip(ciphertext: str, key: str) -> dict[str, str]:
    """Prove that this worker reaches Vault with its own token, and the cache."""
    return jobs.round_trip(vault(), cache, ciphertext, key)


@app.task(name=HEARTBEAT, ignore_result=True)
def heartbeat() -> None:
    """Prove that beat sends tasks."""
    scheduler.stamp(cache)


@signals.setup_logging.connect
def _set_up_logging(**_: object) -> None:
    # Connecting this signal also keeps Celery from setting up its own logging.
    logs.configure(settings.log_level, redactor)


@signals.celeryd_init.connect
def _require_vault(**_: object) -> None:
    try:
        vault()
    except SettingsError as error:
        raise SystemExit(str(error)) from None


@signals.celeryd_after_setup.connect
def _leave_out_banner(instance: object, **_: object) -> None:
    # The banner is many lines that no log parser understands.
    instance.quiet = True


@signals.worker_ready.connect
def _say_ready(**_: object) -> None:
    log.info("worker is ready")


@signals.beat_init.connect
def _say_started(**_: object) -> None:
    log.info("scheduler has started")
