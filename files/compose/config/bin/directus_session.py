"""A session of Directus's administrator for programs inside containers, with Python's standard library only.

Requests that are answered with 503 are repeated, an expired token is renewed, and a refused login is never repeated:
Directus suspends the account after 25.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import http.client
import json
import time
import typing as t
import urllib.error
import urllib.request
import uuid

CONTACT = 300.0  # seconds for one request to be answered by a Directus that is busy or restarts
LONGEST_PAUSE = 30.0
# Directus counts a login that it never answered as a wrong one.
UNANSWERED_LOGINS = 4


class Problem(Exception):
    """A reason to end without success, as a sentence for the operator."""


class Refused(Problem):
    """Directus's answer is an error."""

    def __init__(self, status: int, request: str, code: str, message: str, wait: str | None = None) -> None:
        """`wait`: the Retry-After header."""
        self.status, self.code, self.wait = status, code, wait
        super().__init__(f"Directus refused {request}: {message or 'it gave no reason'} ({code or f'HTTP {status}'})")


def retry_after(value: str | None, otherwise: float) -> float:
    """Seconds that a Retry-After header asks for: a number or a date."""
    if not value:
        return otherwise
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        until = email.utils.parsedate_to_datetime(value)
        return max(0.0, (until - datetime.datetime.now(datetime.UTC)).total_seconds())
    return otherwise


class Directus:
    """A session of the administrator that outlives its token, whose life is 15 minutes."""

    def __init__(self, url: str, user: str, password: str, deadline: float) -> None:
        self.url, self.user, self.password, self.deadline = url, user, password, deadline
        self.token = self.refresh_token = ""
        self.unanswered = 0
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str, body: object = None) -> t.Any:
        """The answer's `data`. An expired session is opened again, once. Raises Refused and Problem."""
        try:
            return self.send(method, path, body, self.token)
        except Refused as error:
            if error.status != 401 and error.code != "INVALID_TOKEN":
                raise
        self.log_in()
        return self.send(method, path, body, self.token)

    def everything(self, path: str) -> list[dict]:
        """A whole list, not from the cache: a new alias makes each request unique."""
        return self.ask("GET", f"{path}?alias%5B_{uuid.uuid4().hex}%5D=id") or []

    def search(self, path: str, conditions: dict, fields: list[str]) -> list[dict]:
        """Items that meet a filter. The values stay out of the address, which Directus writes to its log."""
        return self.ask("SEARCH", path, {"query": {"filter": conditions, "fields": fields, "limit": 1}}) or []

    def log_in(self) -> None:
        """Open a new session. A refused login is never repeated: Directus suspends the account after 25."""
        self.log_out()
        body = {"email": self.user, "password": self.password, "mode": "json"}
        while True:
            try:
                data = self.send("POST", "/auth/login", body, "", repeat=False)
                break
            except Refused as error:
                if error.status in (400, 401, 403):
                    raise Problem(
                        f"Directus refuses the login of {self.user}: {error} It was not repeated, because Directus"
                        " suspends the account after 25 refusals. The account is for OpenMates alone: run site.yml"
                        " again, which corrects its password and status, and removes a second factor."
                    ) from None
                if error.status not in (429, 503):  # both are sent before the password is checked
                    self.count_unanswered(error)
                self.pause(error, retry_after(error.wait, 5.0))
            except OSError as error:
                if not isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                    self.count_unanswered(error)
                self.pause(error, 5.0)
        self.token, self.refresh_token = data["access_token"], data["refresh_token"]
        self.unanswered = 0

    def count_unanswered(self, error: Exception) -> None:
        self.unanswered += 1
        if self.unanswered >= UNANSWERED_LOGINS:
            raise Problem(
                f"Directus answered none of {self.unanswered} logins ({error}), and counts each as a wrong one. Its"
                " cache or database may be away: `docker compose logs cms`."
            ) from None

    def log_out(self) -> None:
        """Close the session, since each run would leave a row in Directus's database."""
        if self.refresh_token:
            body = {"refresh_token": self.refresh_token, "mode": "json"}
            with contextlib.suppress(Problem, OSError):
                self.send("POST", "/auth/logout", body, "", repeat=False)
        self.token = self.refresh_token = ""

    def pause(self, error: Exception, seconds: float) -> None:
        """Wait before a repetition. Raises Problem when the deadline is over."""
        if time.monotonic() + seconds > self.deadline:
            raise Problem(f"{self.url} could not be asked any more before the deadline: {error}") from None
        time.sleep(seconds)

    def wait(self) -> None:
        """Until it answers at all. Raises Problem."""
        end = min(self.deadline, time.monotonic() + CONTACT)
        while True:
            try:
                with self.opener.open(f"{self.url}/server/ping", timeout=20) as answer:
                    if answer.read() == b"pong":
                        return
                    problem = "it is not Directus"
            except (OSError, http.client.HTTPException) as error:
                problem = str(getattr(error, "reason", error))
            if time.monotonic() > end:
                raise Problem(f"no Directus answers at {self.url}: {problem}. See `docker compose logs cms`.")
            time.sleep(1)

    def send(self, method: str, path: str, body: object, token: str, repeat: bool = True) -> t.Any:
        """One request, repeated while Directus is busy or restarts if `repeat`. Raises Refused and OSError."""
        end, pause = min(self.deadline, time.monotonic() + CONTACT), 1.0
        while True:
            problem: Refused | OSError
            wait = pause
            try:
                return self.send_once(method, path, body, token)
            except urllib.error.HTTPError as error:
                problem = refusal(f"{method} {path.partition('?')[0]}", error)
                if error.code not in (429, 502, 503, 504):
                    raise problem from None
                wait = retry_after(problem.wait, pause)
            except http.client.HTTPException as error:
                problem = OSError(f"{self.url} broke off its answer ({type(error).__name__})")
            except OSError as error:
                problem = error
            if not repeat or time.monotonic() + wait > end:
                raise problem
            time.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    def send_once(self, method: str, path: str, body: object, token: str) -> t.Any:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.url}{path}"
        request = urllib.request.Request(address, method=method, data=data, headers=headers)  # noqa: S310 - the stack's
        with self.opener.open(request, timeout=60) as answer:
            text = answer.read()
        if not text:
            return None
        try:
            return json.loads(text)["data"]
        except (ValueError, LookupError, TypeError):
            raise Problem(f"What answers at {self.url}{path.partition('?')[0]} is not Directus: no JSON.") from None


def refusal(request: str, error: urllib.error.HTTPError) -> Refused:
    code = message = ""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, OSError):
        first = json.loads(error.read())["errors"][0]
        code, message = str(first.get("extensions", {}).get("code", "")), str(first["message"])
    return Refused(error.code, request, code, message, error.headers.get("Retry-After"))
