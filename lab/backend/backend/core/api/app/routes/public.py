"""Health, Apps, the internal interface, and the sample's own observation."""

import asyncio
import logging

import httpx
import redis
from fastapi import APIRouter, Depends, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel

from backend.core.api.app import analytics, checks
from backend.core.api.app.routes.auth import signed_in
from backend.core.api.app.routes.common import client_address, internal_only, limited, services
from backend.core.api.app.services.cache import Cache

APP_TIMEOUT = 30.0  # seconds

log = logging.getLogger(__name__)
router = APIRouter()
internal = APIRouter(prefix="/internal", dependencies=[Depends(internal_only)])


class Beacon(BaseModel):
    t: str


@router.get("/health", include_in_schema=False)
async def health() -> RedirectResponse:
    """The old address."""
    return RedirectResponse("/v1/health", 301)


@router.get("/v1/health", dependencies=[Depends(limited(60))])
def health_v1(request: Request) -> dict:
    """Liveness: 200 whatever is down. What the worker has found out about the Apps is in the cache."""
    apps: dict[str, dict] = {}
    # A new connection for each request: a cache that does not answer delays one request in half a minute.
    cache = Cache(services(request).settings)
    try:
        if client := cache.client:
            for key in client.keys("health_check:app:*"):
                found = cache.get(key)
                if isinstance(found, dict):
                    apps[key.rpartition(":")[2]] = {"status": found.get("status", "unknown"), "last_check": None}
    except (redis.RedisError, OSError) as error:
        log.error("Error fetching health status: %s", error)
    unhealthy = sum(app["status"] == "unhealthy" for app in apps.values())
    status = "healthy" if not unhealthy else "degraded" if unhealthy < len(apps) else "unhealthy"
    return {"status": status, "providers": {}, "apps": apps, "external_services": {}}


@router.post("/v1/analytics/beacon", status_code=204)
def beacon(asked: Beacon, request: Request) -> None:
    """Count a page view."""
    if asked.t == "pv":
        analytics.record(services(request).cache)


@router.post("/v1/apps/{name}/skills/{skill}")
def skill(name: str, skill: str, body: dict, request: Request) -> JSONResponse:
    """Pass a request of a signed-in account on to an App, and its answer back."""
    own = services(request)
    if not signed_in(request):
        raise HTTPException(401, "not logged in")
    if name not in own.settings.apps:
        raise HTTPException(404, f"there is no App {name}")
    headers = {"X-Internal-Service-Token": own.settings.internal_token or ""}
    url = f"{own.settings.apps[name]}/skills/{skill}"
    try:
        answer = httpx.post(url, json=body, headers=headers, timeout=APP_TIMEOUT, trust_env=False)
        return JSONResponse(answer.json(), answer.status_code)
    except (httpx.HTTPError, ValueError) as error:
        log.error("App %s: %s", name, type(error).__name__)
        raise HTTPException(502, f"the App {name} does not answer") from None


@internal.get("/config/ping")
def internal_ping() -> dict[str, str]:
    """What a service with the shared token gets."""
    return {"status": "ok"}


@router.get("/sample/dependencies")
def dependencies(request: Request) -> JSONResponse:
    """The sample's own: which dependency does its part. The product must not use it; the real backend has none."""
    results = request.app.state.checks.results()
    found = {name: {"ok": result.ok, "detail": result.detail} for name, result in results.items()}
    return JSONResponse({"ok": checks.all_ok(results), "checks": found}, headers={"Cache-Control": "no-store"})


@router.get("/whoami")
async def whoami(request: Request) -> dict[str, object]:
    """The sample's own: the client's address as the api sees it, and the request's headers but for credentials."""
    shown = {name: value for name, value in request.headers.items() if name not in ("authorization", "cookie")}
    return {"client": client_address(request), "headers": shown}


@router.post("/received")
async def received(request: Request) -> dict[str, int]:
    """The sample's own: how many bytes of the request's body arrived."""
    return {"bytes": sum([len(chunk) async for chunk in request.stream()])}


@router.post("/sample/slow")
async def slow(seconds: float) -> dict[str, float]:
    """The sample's own: an answer that takes its time, as a file's or a model's does."""
    await asyncio.sleep(min(seconds, 60))
    return {"seconds": seconds}


@router.websocket("/sample/websocket")
async def websocket(socket: WebSocket) -> None:
    """The sample's own: sends back each text, on a connection that stays open like the real backend's."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return
