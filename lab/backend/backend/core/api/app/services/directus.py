"""Directus, as its administrator.

One token for all processes, kept in the cache for 14 minutes; a lock in the cache lets one process at a time log in.
Nothing counts refused logins: with a wrong password each call is another one, and Directus suspends the account at the
twenty-fifth. Where the cache is away, each call logs in anew.
"""

import json
import logging
import threading
import time
import uuid
from datetime import UTC, datetime

import httpx

from backend.core.api.app.redact import Redactor
from backend.core.api.app.services.cache import Cache
from backend.core.api.app.settings import Settings

TOKEN_KEY = "directus_admin_token"  # noqa: S105 - a key of the cache
LOCK_KEY = "directus_admin_token_refresh_lock"
LOCK_SECONDS = 30
LOCK_WAIT = 10.0  # seconds
TOKEN_TTL = 840  # seconds; Directus' own tokens live 900
TIMEOUT = 3.0  # seconds
LOGIN_TIMEOUT = 5.0  # seconds
ATTEMPTS = 5
TIMED_OUT_ATTEMPTS = 3
CONNECTION_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, OSError)

log = logging.getLogger(__name__)


class CmsError(Exception):
    """Directus does not do what was asked."""


class Directus:
    """Safe to use from several threads."""

    def __init__(self, settings: Settings, cache: Cache, redactor: Redactor) -> None:
        self._settings = settings
        self._cache = cache
        self._redactor = redactor
        self._lock = threading.Lock()
        self._client = httpx.Client(base_url=settings.cms_url, timeout=TIMEOUT, trust_env=False)

    def request(self, method: str, path: str, **arguments: object) -> httpx.Response:
        """Send a request as the administrator. Raises CmsError without a token, HTTPError without a connection."""
        for attempt in range(ATTEMPTS):
            token = self._token()
            if not token:
                raise CmsError("Failed to authenticate with CMS")
            headers = {"Authorization": f"Bearer {token}", "Cache-Control": "no-store"}
            try:
                response = self._client.request(method, path, headers=headers, **arguments)
            except CONNECTION_ERRORS as error:
                if attempt == ATTEMPTS - 1:
                    log.error("CMS unreachable after %d connection retries: %s", ATTEMPTS, type(error).__name__)
                    raise
                log.warning("CMS connection failed (%s)", type(error).__name__)
                time.sleep(min(2 ** (attempt + 1), 16))
                continue
            except httpx.HTTPError as error:
                # A time-out: the request is sent again, also one that creates something and may have arrived.
                if attempt >= TIMED_OUT_ATTEMPTS - 1:
                    raise
                log.warning("Request failed: %s. Retrying...", type(error).__name__)
                time.sleep(1)
                continue
            if response.status_code == 401 and "TOKEN_EXPIRED" in response.text:
                self._cache.delete(TOKEN_KEY)
                continue
            return response
        raise CmsError("Maximum retry attempts reached")

    def items(self, path: str, filters: dict | None = None, fields: str = "*", limit: int = 100) -> list[dict]:
        """Return the items at a path. Raises CmsError, also for what Directus refuses."""
        parameters = {"fields": fields, "limit": limit, "_ts": time.time_ns()}
        if filters:
            parameters["filter"] = json.dumps(filters)
        response = self.request("GET", path, params=parameters)
        if response.status_code != 200:
            log.error("Directus answered %s to GET %s: %s", response.status_code, path, response.text[:200])
            raise CmsError(f"Directus answered {response.status_code} to GET {path}")
        return response.json()["data"]

    def create(self, path: str, payload: dict) -> dict:
        """Create an item. Raises CmsError."""
        response = self.request("POST", path, json=payload)
        if not 200 <= response.status_code < 300:
            log.error("Failed to create an item at %s. Status: %s, %s", path, response.status_code, response.text[:200])
            raise CmsError(f"Directus answered {response.status_code} to POST {path}")
        return response.json().get("data") or {}

    def count_users(self, since: datetime | None = None) -> int:
        """Count the accounts, or those that were used since then; 0 if that fails."""
        parameters: dict[str, object] = {"limit": 1, "meta": "filter_count"}
        if since:
            parameters["filter"] = json.dumps({"last_access": {"_gte": since.isoformat()}})
        try:
            return int(self.request("GET", "/users", params=parameters).json()["meta"]["filter_count"])
        except (CmsError, httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            log.error("Error getting user count: %s", error)
            return 0

    def log_in(self, email: str, password: str) -> tuple[dict, dict[str, str]]:
        """Log an account in; return its own data and the cookies. Raises CmsError."""
        credentials = {"email": email, "password": password, "mode": "cookie"}
        return self._session(self._open("/auth/login", credentials))

    def refresh(self, token: str) -> tuple[dict, dict[str, str]]:
        """Exchange a refresh token for a new one; return the account and the cookies. Raises CmsError."""
        return self._session(self._open("/auth/refresh", {"refresh_token": token, "mode": "cookie"}, token))

    def log_out(self, token: str) -> None:
        """End a session."""
        self._open("/auth/logout", {"refresh_token": token, "mode": "json"})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _open(self, path: str, body: dict, cookie: str = "") -> httpx.Response:
        headers = {"Cookie": f"directus_refresh_token={cookie}"} if cookie else {}
        url = self._settings.cms_url + path
        return httpx.post(url, json=body, headers=headers, timeout=LOGIN_TIMEOUT, trust_env=False)

    def _session(self, response: httpx.Response) -> tuple[dict, dict[str, str]]:
        token = response.json().get("data", {}).get("access_token") if response.status_code == 200 else None
        if not token:
            raise CmsError(f"Directus answered {response.status_code} to {response.request.url.path}")
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self._settings.cms_url}/users/me"
        mine = httpx.get(url, headers=headers, timeout=LOGIN_TIMEOUT, trust_env=False)
        if mine.status_code != 200:
            raise CmsError(f"Directus answered {mine.status_code} to GET /users/me")
        return mine.json()["data"], dict(response.cookies.items())

    def _token(self) -> str | None:
        if token := self._cache.get(TOKEN_KEY):
            return str(token)
        with self._lock:
            if token := self._cache.get(TOKEN_KEY):
                return str(token)
            # Without a cache there is no lock; with one that stopped answering this raises.
            client, mine = self._cache.client, uuid.uuid4().hex
            held = bool(client and client.set(LOCK_KEY, mine, nx=True, ex=LOCK_SECONDS))
            try:
                if not held:
                    deadline = time.monotonic() + LOCK_WAIT
                    while time.monotonic() < deadline:
                        time.sleep(0.25)
                        if token := self._cache.get(TOKEN_KEY):
                            return str(token)
                    log.warning("Timed out waiting for the lock of the Directus login; logging in without it")
                if token := self._log_in_as_administrator():
                    return token
            finally:
                if held and self._cache.get(LOCK_KEY) == mine:
                    self._cache.delete(LOCK_KEY)
        log.error("Admin authentication failed!")
        return None

    def _log_in_as_administrator(self) -> str | None:
        if not (self._settings.admin_email and self._settings.admin_password):
            log.error("Cannot login: Admin credentials not available")
            return None
        credentials = {"email": self._settings.admin_email, "password": self._settings.admin_password}
        for attempt in range(ATTEMPTS):
            try:
                response = self._open("/auth/login", credentials)
            except CONNECTION_ERRORS as error:
                if attempt == ATTEMPTS - 1:
                    log.error("Admin login failed after %d connection retries: %s", ATTEMPTS, type(error).__name__)
                    return None
                log.warning("CMS connection failed during admin login (%s)", type(error).__name__)
                time.sleep(min(2 ** (attempt + 1), 16))
                continue
            except httpx.HTTPError as error:
                log.error("Admin login failed: %s", type(error).__name__)
                return None
            if response.status_code != 200:
                log.error("Admin login failed with status %s: %s", response.status_code, response.text[:300])
                return None
            token = response.json()["data"]["access_token"]
            self._redactor.register("directus token", token)
            self._cache.set(TOKEN_KEY, token, TOKEN_TTL)
            return token
        return None


def midnight(first_of_month: bool = False) -> datetime:
    """Return when this day, or this month, began."""
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return now.replace(day=1) if first_of_month else now
