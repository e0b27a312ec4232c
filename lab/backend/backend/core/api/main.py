"""The api: liveness, readiness, metrics. Run by `uvicorn backend.core.api.main:app`."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from backend.core.api.app import logs
from backend.core.api.app.dependencies import scheduler
from backend.core.api.app.dependencies.cache import Cache
from backend.core.api.app.dependencies.directus import Directus
from backend.core.api.app.dependencies.sample_app import SampleApp
from backend.core.api.app.dependencies.vault import Vault
from backend.core.api.app.dependencies.worker import Worker
from backend.core.api.app.draining import Drain
from backend.core.api.app.observation import RequestObserver
from backend.core.api.app.readiness import Check, Monitor, all_up
from backend.core.api.app.redact import Redactor
from backend.core.api.app.settings import ApiSettings, SettingsError, load_api, secret_values

WORKER_TIMEOUT = 4.5  # seconds: this check waits for two more processes than the others

log = logging.getLogger(__name__)


class DependencyCollector(Collector):
    """Reads the monitor when Prometheus asks, so that the gauge turns 0 by staleness too."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        gauge = GaugeMetricFamily("openmates_dependency_up", "1 if the dependency is up.", labels=["dependency"])
        for name, result in self._monitor.results().items():
            gauge.add_metric([name], float(result.ok))
        yield gauge


def build_checks(settings: ApiSettings, redactor: Redactor) -> list[Check]:
    """Return one check a dependency."""
    vault, cache = Vault(settings.vault, redactor), Cache(settings.cache)
    directus = Directus(settings.cms_url, settings.admin_email, settings.admin_password, redactor)
    return [
        Check("vault_token", vault.check_token),
        Check("vault_kv", partial(vault.check_provider, settings.provider)),
        Check("vault_transit", vault.check_transit),
        Check("directus", directus.check),
        Check("cache", cache.check),
        Check("worker", Worker(settings.cache, vault, cache).check, WORKER_TIMEOUT),
        Check("scheduler", partial(scheduler.check, cache)),
        *(Check(f"app:{name}", SampleApp(url, settings.internal_token).check) for name, url in settings.apps.items()),
    ]


def build_app(settings: ApiSettings, redactor: Redactor) -> FastAPI:
    """Return the api; its checks run while it does."""
    monitor, drain = Monitor(build_checks(settings, redactor), redactor), Drain(settings.drain_seconds)
    REGISTRY.register(DependencyCollector(monitor))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("api starts", extra={"fields": {"environment": settings.environment}})
        if os.environ.get("UVICORN_PROXY_HEADERS", "").lower() not in ("0", "false", "no", "off"):
            log.warning("UVICORN_PROXY_HEADERS is not false: X-Forwarded-For from 127.0.0.1 is trusted besides our own")
        drain.watch()
        monitor.start()
        yield
        monitor.stop()
        log.info("api stops")

    api = FastAPI(title="OpenMates sample backend", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    api.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.allowed_origins),
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    api.add_middleware(RequestObserver, trusted_proxies=settings.trusted_proxies)

    @api.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        """Liveness: the process answers. Looks at no dependency."""
        return {"status": "ok"}

    @api.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> JSONResponse:
        """Readiness: 200 if every dependency is up, else 503."""
        results = monitor.results()
        is_ready = all_up(results) and not drain.begun
        body = {
            "ready": is_ready,
            "checks": {
                name: {
                    "ok": result.ok,
                    "detail": result.detail,
                    "checked_seconds_ago": round(result.checked_seconds_ago, 1),
                }
                for name, result in results.items()
            },
        }
        if drain.begun:
            body["stopping"] = True
        return JSONResponse(body, status_code=200 if is_ready else 503, headers={"Cache-Control": "no-store"})

    @api.get("/metrics")
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    @api.get("/whoami")
    async def whoami(request: Request) -> dict[str, object]:
        """The client's address as the api sees it, and the request's headers as they arrived, but for credentials."""
        shown = {name: value for name, value in request.headers.items() if name not in ("authorization", "cookie")}
        return {"client": request.scope["openmates.client"], "headers": shown}

    @api.post("/received")
    async def received(request: Request) -> dict[str, int]:
        """How many bytes of the request's body arrived."""
        return {"bytes": sum([len(chunk) async for chunk in request.stream()])}

    return api


def _start() -> FastAPI:
    redactor = Redactor()
    for name, value in secret_values(os.environ).items():
        redactor.register(name, value)
    try:
        settings = load_api(os.environ)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    logs.configure(settings.log_level, redactor)
    return build_app(settings, redactor)


app = _start()
