"""Directus: logs in as the administrator and asks who that is."""

import time

import httpx

from backend.core.api.app.dependencies import http
from backend.core.api.app.dependencies.login_guard import LoginGuard
from backend.core.api.app.errors import DependencyError
from backend.core.api.app.redact import Redactor

TIMEOUT = 2.5  # seconds
# A login costs Directus a password hash and a session: once a minute is enough to notice a changed password.
LOGIN_EVERY = 60.0  # seconds


class Directus:
    """The administrator's session. Used by one thread."""

    def __init__(self, url: str, email: str, password: str, redactor: Redactor) -> None:
        self._email = email
        self._password = password
        self._redactor = redactor
        self._url = url
        self._client = http.client(url, TIMEOUT)
        self._guard = LoginGuard()
        self._access = ""
        self._refresh = ""
        self._logged_in_at = 0.0

    def check(self) -> str:
        """Log in if it is time to, then read our own user."""
        try:
            fresh = self._login_if_due()
            response = self._me()
            if response.status_code in (401, 403) and not fresh:
                self._access = ""
                self._login_if_due()
                response = self._me()
        except httpx.TimeoutException:
            raise DependencyError(f"no answer from Directus at {self._url} within {TIMEOUT:g} s") from None
        except httpx.TransportError as error:
            raise DependencyError(f"no connection to Directus at {self._url} ({type(error).__name__})") from None
        if response.status_code != 200:
            self._access = ""
            raise DependencyError(f"Directus answered {response.status_code} to GET /users/me")
        email = _data(response).get("email")
        if not isinstance(email, str) or email.lower() != self._email.lower():
            raise DependencyError("Directus says that we are somebody else than ADMIN_EMAIL")
        return "logged in as the administrator and read /users/me"

    def _me(self) -> httpx.Response:
        return self._client.get("/users/me", headers={"Authorization": f"Bearer {self._access}"})

    def _login_if_due(self) -> bool:
        now = time.monotonic()
        if self._access and now - self._logged_in_at < LOGIN_EVERY:
            return False
        self._log_out()
        if obstacle := self._guard.obstacle(now):
            raise DependencyError(obstacle)
        response = self._client.post("/auth/login", json={"email": self._email, "password": self._password})
        if response.status_code in (400, 401, 403):
            self._guard.refused(now)
            raise DependencyError(f"Directus refused the login of ADMIN_EMAIL ({response.status_code})")
        if response.status_code != 200:
            raise DependencyError(f"Directus answered {response.status_code} to the login")
        data = _data(response)
        self._access, self._refresh = str(data.get("access_token") or ""), str(data.get("refresh_token") or "")
        if not self._access:
            raise DependencyError("Directus accepted the login but sent no token")
        self._redactor.register("directus access", self._access)
        self._redactor.register("directus refresh", self._refresh)
        self._guard.accepted()
        self._logged_in_at = now
        return True

    def _log_out(self) -> None:
        """Give the old session back, else a row of them piles up in Directus' database. Failing here harms nothing."""
        refresh, self._access, self._refresh = self._refresh, "", ""
        if refresh:
            self._client.post("/auth/logout", json={"refresh_token": refresh, "mode": "json"})


def _data(response: httpx.Response) -> dict:
    try:
        data = response.json()["data"]
    except (ValueError, KeyError, TypeError):
        data = None
    if not isinstance(data, dict):
        raise DependencyError("Directus answered something that is not Directus' JSON")
    return data
