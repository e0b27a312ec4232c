"""The api. Run by `uvicorn backend.core.api.main:app`."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import make_asgi_app
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from backend.core.api.app import frontends, logs, startup, tracing
from backend.core.api.app.checks import Checks
from backend.core.api.app.dependencies import Dependencies
from backend.core.api.app.observation import RequestObserver
from backend.core.api.app.routes import auth, public
from backend.core.api.app.routes.common import TooManyRequests
from backend.core.api.app.services import Services

log = logging.getLogger(__name__)


def build_app() -> FastAPI:
    """Return the api."""
    services = Services()
    logs.configure(services.settings.log_level, services.redactor)
    tracing.start(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(startup.start, services, app.state.start)
        yield
        log.info("Shutting down application...")
        await asyncio.to_thread(startup.stop, services, app.state.start)

    app = FastAPI(title="OpenMates sample backend", lifespan=lifespan, redoc_url=None)
    app.state.services = services
    app.state.start = startup.State()
    app.state.checks = Checks(Dependencies(services).checks(), services.redactor)
    app.state.allowed_origins = frontends.allowed_origins(os.environ)
    log.info("allowed origins: %s", app.state.allowed_origins)
    app.mount("/metrics", make_asgi_app())
    app.add_middleware(RequestObserver)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=app.state.allowed_origins,
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Content-Disposition"],
    )
    # Without TRUSTED_PROXY_IPS every caller's X-Forwarded-For counts; blanks between the addresses make them unknown.
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=os.environ.get("TRUSTED_PROXY_IPS", "*").split(","))
    for router in (auth.router, public.internal, public.router):
        app.include_router(router)

    @app.exception_handler(TooManyRequests)
    async def too_many(_: Request, error: TooManyRequests) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 429)

    return app


app = build_app()
