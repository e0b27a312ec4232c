"""Counts and logs every request."""

import logging
import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# As OpenMates names them.
REQUESTS = Counter("api_requests_total", "Requests answered.", ("method", "endpoint", "status_code"))
DURATION = Histogram("api_request_duration_seconds", "Seconds to answer a request.", ("method", "endpoint"))
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Probes come every few seconds for ever.
QUIET = frozenset({"/health", "/v1/health", "/metrics", "/sample/dependencies"})

log = logging.getLogger(__name__)


class RequestObserver:
    """ASGI middleware. Labels are the route's pattern, never the path asked for: that would be without bound."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; note the status and the time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, quiet = time.perf_counter(), 500, scope["path"].rstrip("/") in QUIET

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            client = scope["client"][0] if scope.get("client") else ""
            seconds = time.perf_counter() - started
            REQUESTS.labels(method, path, status).inc()
            DURATION.labels(method, path).observe(seconds)
            fields = {"method": method, "path": path, "status": status, "client": client, "seconds": round(seconds, 4)}
            log.log(logging.DEBUG if quiet else logging.INFO, "request", extra={"fields": fields})
