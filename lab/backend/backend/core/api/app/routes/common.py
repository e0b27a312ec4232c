"""What several routes share."""

import hmac
from collections.abc import Callable

from fastapi import HTTPException, Request

from backend.core.api.app.rate_limit import RateLimiter
from backend.core.api.app.services import Services

limiter = RateLimiter()


class TooManyRequests(Exception):
    """A client has asked more often than a route allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Rate limit exceeded: {limit} per 1 minute")


def client_address(request: Request) -> str:
    """Return the client's address; the middleware has put the one behind trusted proxies there."""
    return request.client.host if request.client else "127.0.0.1"


def limited(limit: int) -> Callable[[Request], None]:
    """Return a dependency that allows so many requests a minute for each client address."""

    def check(request: Request) -> None:
        if not limiter.allows(request.scope["route"].path, client_address(request), limit):
            raise TooManyRequests(limit)

    return check


def services(request: Request) -> Services:
    """Return the process's services."""
    return request.app.state.services


def allowed_origin(request: Request) -> None:
    """Refuse a request that does not come from one of the frontends."""
    origin = request.headers.get("origin")
    if not origin or origin not in request.app.state.allowed_origins:
        raise HTTPException(403, f"Access denied: Origin '{origin or '(missing)'}' is not in the allowed origins list")


def internal_only(request: Request) -> None:
    """Refuse a caller without the token that the services share."""
    expected = services(request).settings.internal_token
    if not expected:
        raise HTTPException(500, "the internal token is not configured")
    given = request.headers.get("X-Internal-Service-Token")
    if not given:
        raise HTTPException(401, "Missing internal service token")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "Invalid internal service token")
