# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared code of the directus_* modules: the connection to Directus, its errors as sentences, and stable ids."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import hashlib
import json
import time
import typing as t
import uuid
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

# Argument spec; plugins/doc_fragments/directus.py documents it.
CONNECTION: dict[str, t.Any] = {
    "url": {"type": "str", "required": True},
    "email": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "deadline": {"type": "int", "default": 60},
}

POLL_SECONDS = 0.2
# Seconds between attempts of a request that was answered with 503 without Retry-After, as Directus's pressure limiter
# does.
BUSY_SECONDS, BUSY_SECONDS_AT_MOST = 1.0, 10.0

# Without a proxy. Ansible's open_url reads the trusted certificates again for each request, even for plain HTTP, which
# takes longer than most of Directus's answers.
_OPENER = build_opener(ProxyHandler({}))


def fetch(address: str, *, timeout: float, **request: t.Any) -> bytes:
    """The body of an HTTP answer, at most `timeout` seconds late; `request` is what urllib's Request takes.

    Raises HTTPError for an error response, URLError and OSError for none, ValueError for an invalid address.
    """
    with _OPENER.open(Request(address, **request), timeout=timeout) as answer:  # noqa: S310 - the inventory's address
        return answer.read()


class DirectusProblem(Exception):
    """A problem for the operator, as one sentence without secrets."""


class DirectusUnreachable(DirectusProblem):
    """No Directus answers at the address."""


class Refused(DirectusProblem):
    """Directus refused a request. `code` is Directus's error code, such as FORBIDDEN."""

    def __init__(self, request: str, status: int, code: str, message: str, wait: str | None = None) -> None:
        """`wait`: the answer's Retry-After header."""
        self.status, self.code, self.wait = status, code, wait
        super().__init__(sentence(request, status, code, message))


def sentence(request: str, status: int, code: str, message: str) -> str:
    """A refusal as a message for the operator."""
    if code == "LIMIT_EXCEEDED":
        return (
            f"Directus's licence does not allow it: {message.rstrip('.')} ({request}). Directus 12 limits seats,"
            " collections and permission rules unless it has a licence key. Declare less, add a licence, or stay"
            " on Directus 11 (openmates_directus_image). Its configuration may set such limits as well."
        )
    if code == "REQUESTS_EXCEEDED":
        return f"Directus's rate limiter refused {request}: {message}"
    return f"Directus refused {request}: {message} ({code or f'HTTP status {status}'})"


class Incomplete(DirectusProblem):
    """Directus lacks collections or fields that its set-up creates."""


class AdministratorRefused(DirectusProblem):
    """Directus refuses the administrator's address or password."""


def refusal(request: str, error: HTTPError) -> Refused:
    """The refusal in an HTTP error, whose body is Directus's JSON, or arbitrary if a proxy answered."""
    code, message = "", "no reason given."
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, OSError):
        first = json.loads(error.read())["errors"][0]
        code, message = str(first.get("extensions", {}).get("code", "")), str(first["message"])
    return Refused(request, error.code, code, message, error.headers.get("Retry-After") if error.headers else None)


def retry_after(header: str | None, otherwise: float) -> float:
    """The seconds that a Retry-After header asks for, a number or a date; `otherwise` without a usable one."""
    text = (header or "").strip()
    if text.isdigit():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        then = email.utils.parsedate_to_datetime(text)
        if then.tzinfo is None:
            then = then.replace(tzinfo=datetime.UTC)
        return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
    return otherwise


class Directus:
    """A session with one Directus. Used with `with`, so that the session is closed."""

    def __init__(self, url: str, timeout: float = 60, patience: float = 60) -> None:
        """Seconds for each request: the timeout of its answer, and how long it is retried after 503."""
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.patience = patience
        self.token = ""
        self.refresh_token = ""
        self.account: tuple[str, str] | None = None

    def __enter__(self) -> Directus:
        return self

    def __exit__(self, *_: object) -> None:
        self.log_out()

    def ask(
        self, method: str, path: str, body: t.Any = None, query: dict | None = None, token: str | None = None
    ) -> t.Any:
        """Send a request; returns the answer's `data`, or None. Raises Refused and DirectusUnreachable.

        `token`: send it as another user than the logged-in one. Directus answers 503, before it does anything, when it
        is busy or a dependency is down, so that is retried. A session whose token has expired is opened again.
        """
        try:
            return self.ask_patiently(method, path, body, query, self.token if token is None else token)
        except Refused as error:
            if error.status != 401 or error.code != "TOKEN_EXPIRED" or token is not None or self.account is None:
                raise
        self.log_in(*self.account)
        return self.ask_patiently(method, path, body, query, self.token)

    def ask_patiently(self, method: str, path: str, body: t.Any, query: dict | None, bearer: str) -> t.Any:
        """Send a request, repeated while it is answered with 503, for up to `patience` seconds."""
        end, pause = time.monotonic() + self.patience, BUSY_SECONDS
        while True:
            try:
                return self.ask_once(method, path, body, query, bearer)
            except Refused as error:
                wait = retry_after(error.wait, pause)
                if error.status != 503 or time.monotonic() + wait > end:
                    raise
            time.sleep(wait)
            pause = min(pause * 2, BUSY_SECONDS_AT_MOST)

    def ask_once(self, method: str, path: str, body: t.Any, query: dict | None, bearer: str) -> t.Any:
        headers = {"Content-Type": "application/json"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        try:
            text = fetch(
                f"{self.url}{path}{'?' + urlencode(query) if query else ''}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=self.timeout,
            )
        except HTTPError as error:
            raise refusal(f"{method} {path}", error) from None
        except (URLError, OSError, ValueError) as error:
            raise DirectusUnreachable(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None
        if not text:
            return None
        try:
            return json.loads(text).get("data")
        except (ValueError, AttributeError):
            raise DirectusProblem(f"The server at {self.url}{path} is not Directus: the answer is not JSON.") from None

    def search(self, collection: str, conditions: dict | None = None, fields: t.Iterable[str] = ("*",)) -> list[dict]:
        """All items of a system collection that match a filter. Unlike GET, Directus does not cache SEARCH."""
        query = {"filter": conditions or {}, "fields": list(fields), "limit": -1}
        return self.ask("SEARCH", f"/{collection}", {"query": query})

    def read_one(self, path: str) -> dict:
        """A single object, not from the cache: a new alias makes each request unique."""
        return self.ask("GET", path, query={f"alias[_{uuid.uuid4().hex}]": "id"})

    def wait(self, deadline: float) -> None:
        """Wait until Directus answers, at most `deadline` seconds. Raises DirectusProblem."""
        end = time.monotonic() + deadline
        while True:
            try:
                if self.answers():
                    return
                problem = f"{self.url} answers, but Directus is not ready."
            except DirectusUnreachable as error:
                problem = str(error)
            if time.monotonic() >= end:
                raise DirectusProblem(f"{problem} Waited {deadline:g} s; see the log of the cms container.")
            time.sleep(POLL_SECONDS)

    def answers(self) -> bool:
        """Whether Directus answers a ping. Raises DirectusUnreachable."""
        try:
            return fetch(f"{self.url}/server/ping", timeout=self.timeout) == b"pong"
        except HTTPError:
            return False
        except (URLError, OSError, ValueError) as error:
            raise DirectusUnreachable(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None

    def log_in(self, email: str, password: str) -> None:
        """Open a session. Raises Refused.

        A refused login is never repeated: Directus suspends an account after 25.
        """
        data = self.ask("POST", "/auth/login", {"email": email, "password": password, "mode": "json"}, token="")
        self.token, self.refresh_token = data["access_token"], data["refresh_token"]
        self.account = (email, password)

    def log_out(self) -> None:
        """Close the session, since a row per run would stay in Directus's database. A failure is harmless."""
        if self.refresh_token:
            with contextlib.suppress(DirectusProblem):
                self.ask("POST", "/auth/logout", {"refresh_token": self.refresh_token, "mode": "json"}, token="")
        self.token = self.refresh_token = ""
        self.account = None

    def takes(self, email: str, password: str) -> bool:
        """Whether a password is the user's. Directus asks for a second factor only after a correct password."""
        try:
            with Directus(self.url, self.timeout) as session:
                session.log_in(email, password)
        except Refused as error:
            if error.code == "INVALID_CREDENTIALS":
                return False
            if error.code != "INVALID_OTP":
                raise
        return True

    def owner_of(self, token: str) -> str | None:
        """The id of the user that a static token belongs to, or None."""
        try:
            return self.ask("GET", "/users/me", query={"fields": "id"}, token=token)["id"]
        except Refused as error:
            if error.status in (401, 403):
                return None
            raise


def administrator(url: str, email: str, password: str, deadline: float) -> Directus:
    """A session with an administrator's rights. Raises DirectusProblem with the remedy if the login is refused."""
    session = Directus(url, patience=deadline)
    session.wait(deadline)
    try:
        session.log_in(email, password)
    except Refused as error:
        if error.code not in ("INVALID_CREDENTIALS", "INVALID_OTP"):
            raise
        raise refused_login(email, str(error)) from None
    return session


def check_login(session: Directus, email: str, password: str) -> None:
    """Raise AdministratorRefused unless a person's password is as in the inventory, with a second factor or without."""
    if not session.takes(email, password):
        raise refused_login(email, "Invalid user credentials.")


def refused_login(email: str, reason: str) -> AdministratorRefused:
    return AdministratorRefused(
        f"Directus refuses the login of {email}: {reason} The account was changed there, or in the inventory"
        " (openmates_admin_email, openmates_admin_password): site.yml corrects Directus."
    )


_NAMESPACE = "openmates.server/directus"


def _signed(first: bytes) -> uuid.UUID:
    """The id whose first half is `first`: the second half is derived from it, so that the id shows its origin."""
    second = bytearray(hashlib.sha256(f"{_NAMESPACE}/owned/".encode() + first).digest()[:8])
    second[0] = second[0] & 0x3F | 0x80  # the variant of standard UUIDs
    return uuid.UUID(bytes=first + bytes(second))


def stable_id(kind: str, name: str) -> str:
    """The id of an object of that kind and name: the same on every server, and after a restore.

    A UUID of version 8, whose content is application-defined.
    """
    first = bytearray(hashlib.sha256(f"{_NAMESPACE}/{kind}/{name}".encode()).digest()[:8])
    first[6] = first[6] & 0x0F | 0x80
    return str(_signed(bytes(first)))


def is_owned(identifier: str) -> bool:
    """Whether `stable_id` created an id, for any kind and name."""
    try:
        found = uuid.UUID(identifier)
    except ValueError:
        return False
    return _signed(found.bytes[:8]) == found
