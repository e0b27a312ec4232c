"""What the api does before it listens and after it has stopped, in the order of the real backend.

A failure in the critical part is logged, and the api goes on without what came after it: `/v1/health` answers 200,
sign-up answers SERVICE_UNAVAILABLE.
"""

import logging
import os
import threading
import time

import httpx

from backend.core.api.app import analytics, compliance, frontends
from backend.core.api.app.services import Services, providers
from backend.core.api.app.services.directus import midnight
from backend.core.api.app.tasks import queues
from backend.core.api.app.tasks.celery_config import app as celery

CMS_ATTEMPTS = 10
COUNT_EVERY = 15.0  # seconds

log = logging.getLogger(__name__)


class State:
    """What the start has found out; the routes read it."""

    def __init__(self) -> None:
        self.domain_checked = False
        self.invoicing = False
        self.stopping = threading.Event()


def start(services: Services, state: State) -> None:
    """Initialise everything. Raises OSError if the logs cannot be written, SystemExit for a refused domain."""
    settings, vault = services.settings, services.vault
    fault = os.environ.get("SAMPLE_FAULT", "")
    if fault == "exit":
        raise SystemExit("SAMPLE_FAULT: this image ends at its start")
    time.sleep(float(os.environ.get("SAMPLE_START_SECONDS", "0")))
    compliance.set_up(settings.log_directory)
    providers.push_keys(vault)
    _wait_for_cms(settings.cms_url)
    try:
        providers.invoice_ninja(vault, settings.development)
        state.invoicing = True
    except ValueError as error:
        log.error("Invoice Ninja initialization failed (the api starts without invoicing): %s", error)
    log.info("Apps: %s", ", ".join(settings.apps) or "none")
    providers.storage(vault)
    try:
        if fault == "never-ready":
            raise RuntimeError("SAMPLE_FAULT: this image never becomes ready")
        _critical(services, state)
    except Exception as error:
        log.critical("Failed during critical service initialization: %s", error)
    analytics.restore(settings, services.cache, vault)
    _preload_invite_codes(services)
    threading.Thread(target=_count_users, args=(services, state), name="metrics", daemon=True).start()
    try:
        celery.send_task(queues.CHECK_APPS, queue=queues.DEFAULT, retry=False)
    except Exception as error:
        log.error("Failed to trigger initial health check: %s", error)
    if fault.startswith("fails-after:"):
        threading.Timer(float(fault.partition(":")[2]), _end).start()


def _end() -> None:
    """End as a program does that ran out of memory."""
    log.critical("SAMPLE_FAULT: this image ends some time after its start")
    os._exit(1)


def stop(services: Services, state: State) -> None:
    """Save what only the cache knows, then close the connections."""
    state.stopping.set()
    analytics.dump(services.settings, services.cache, services.vault)
    log.warning("Cannot dump orders to disk: no encryption service provided")
    services.vault.close()
    if not state.invoicing:
        raise RuntimeError("the invoicing service was never initialised, so it cannot be closed")
    services.directus.close()


def _critical(services: Services, state: State) -> None:
    services.vault.initialize()
    services.vault.ensure_keys()
    domain = frontends.hosting_domain(os.environ)
    if frontends.refused_domain(domain):
        log.critical("CRITICAL: Server cannot start on restricted domain: %s", domain)
        raise SystemExit("Domain not supported")
    state.domain_checked = True
    if frontends.payment_enabled(os.environ):
        providers.payment(services.vault, services.settings.development)
    log.info("critical initialisation is complete; domain: %s", domain or "localhost")


def _wait_for_cms(url: str) -> None:
    for attempt in range(CMS_ATTEMPTS):
        try:
            if httpx.get(f"{url}/server/ping", timeout=3.0, trust_env=False).status_code == 200:
                return
            log.warning("CMS ping check failed, retrying")
        except httpx.HTTPError as error:
            log.warning("CMS not reachable (%s), retrying", type(error).__name__)
        time.sleep(min(2 ** (attempt + 1), 16))
    log.error("CMS did not become reachable after %d attempts. Startup data may be incomplete.", CMS_ATTEMPTS)


def _preload_invite_codes(services: Services) -> None:
    try:
        codes = services.directus.items("/items/invite_codes")
    except Exception as error:
        log.error("Failed to preload codes: %s", error)
        return
    for code in codes:
        services.cache.set(f"invite_code:{code['code']}", code)
    log.info("preloaded %d invite codes", len(codes))


def _count_users(services: Services, state: State) -> None:
    """Three calls of Directus every 15 seconds: with a wrong password each is a refused login."""
    while not state.stopping.is_set():
        try:
            services.directus.count_users()
            services.directus.count_users(midnight())
            services.directus.count_users(midnight(first_of_month=True))
        except Exception as error:  # the cache, while the lock is taken
            log.error("Error updating active users metrics: %s", type(error).__name__)
        state.stopping.wait(COUNT_EVERY)
