"""An App container: calls its echo skill."""

import secrets

import httpx

from backend.core.api.app.dependencies import http
from backend.core.api.app.errors import DependencyError

TIMEOUT = 2.5  # seconds
TOKEN_HEADER = "X-Internal-Token"  # noqa: S105 - a header's name


class SampleApp:
    """One App, known by its address. Used by one thread."""

    def __init__(self, url: str, internal_token: str) -> None:
        self._url = url
        self._client = http.client(url, TIMEOUT, {TOKEN_HEADER: internal_token})

    def check(self) -> str:
        """Send a random text to the echo skill and expect it back."""
        text = secrets.token_hex(8)
        try:
            response = self._client.post("/skills/echo", json={"text": text})
        except httpx.TimeoutException:
            raise DependencyError(f"no answer from {self._url} within {TIMEOUT:g} s") from None
        except httpx.TransportError as error:
            raise DependencyError(f"no connection to {self._url} ({type(error).__name__})") from None
        if response.status_code != 200:
            raise DependencyError(f"{self._url} answered {response.status_code} to POST /skills/echo")
        try:
            answer = response.json()["text"]
        except (ValueError, KeyError, TypeError):
            answer = None
        if answer != text:
            raise DependencyError(f"{self._url} did not echo")
        return "echo came back"
