"""A browser's requests to the api, over HTTPS and through Caddy: sign up, log in, read the session."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import uuid


class ClientError(Exception):
    """The api refused, or gave an unexpected answer."""


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _random(size: int) -> str:
    return base64.b64encode(secrets.token_bytes(size)).decode()


def new_account() -> dict[str, str]:
    """A new account. The values that a browser would encrypt are random: the api only stores them."""
    name = secrets.token_hex(4)
    email = f"person-{name}@example.net"
    return {
        "email": email,
        "hashed_email": _hash(email),
        "username": f"person_{name}",
        "lookup_hash": _hash(secrets.token_hex(32)),
        "session_id": str(uuid.uuid4()),
    }


class Browser:
    """One browser at a frontend of the api."""

    def __init__(self, domain: str, address: str, origin: str, authorities: str) -> None:
        self.domain, self.address, self.origin = domain, address, origin
        self.context = ssl.create_default_context(cafile=authorities)
        self.cookies: dict[str, str] = {}

    def post(self, path: str, body: dict) -> dict:
        """The decoded answer. Raises ClientError for a status other than 200 or an answer that says "no success"."""
        headers = {"Content-Type": "application/json", "Origin": self.origin, "User-Agent": "Mozilla/5.0 (X11; Linux)"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPSConnection(self.domain, timeout=60, context=self.context)
        raw = socket.create_connection((self.address, 443), timeout=60)
        connection.sock = self.context.wrap_socket(raw, server_hostname=self.domain)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status != 200:
            raise ClientError(f"POST {path}: status {answer.status}: {text[:300]}")
        for header in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        found = json.loads(text)
        if found.get("success", found.get("valid")) is not True:
            raise ClientError(f"POST {path}: {text[:300]}")
        return found

    def check_invite_code(self, code: str) -> None:
        self.post("/v1/auth/check_invite_token_valid", {"invite_code": code})

    def ask_for_email_code(self, account: dict[str, str], code: str) -> None:
        body = {"email": account["email"], "hashed_email": account["hashed_email"], "invite_code": code}
        self.post("/v1/auth/request_confirm_email_code", body | {"language": "en", "darkmode": False})

    def confirm_email(self, account: dict[str, str], code: str, email_code: str) -> None:
        body = {"email": account["email"], "username": account["username"], "invite_code": code, "code": email_code}
        self.post("/v1/auth/check_confirm_email_code", body | {"language": "en", "darkmode": False})

    def set_up_account(self, account: dict[str, str], code: str) -> None:
        body = {name: account[name] for name in ("hashed_email", "username", "lookup_hash")}
        body |= {"invite_code": code, "encrypted_email": _random(48), "user_email_salt": _random(16)}
        body |= {"encrypted_master_key": _random(48), "key_iv": _random(12), "salt": _random(16)}
        self.post("/v1/auth/setup_password", body)

    def log_in(self, account: dict[str, str]) -> str:
        """Log in; returns the user name, which the api stores encrypted by Vault, under the user's own key."""
        body = {name: account[name] for name in ("hashed_email", "lookup_hash", "session_id")}
        found = self.post("/v1/auth/login", body | {"login_method": "password", "email_encryption_key": _random(32)})
        if found.get("tfa_required") and not (found.get("user") or {}).get("id"):
            raise ClientError("the api does not know the account, or its password is wrong")
        return (found.get("user") or {}).get("username") or ""

    def session(self, account: dict[str, str]) -> str:
        """The user name of the cookies' session."""
        found = self.post("/v1/auth/session", {"session_id": account["session_id"]})
        return (found.get("user") or {}).get("username") or ""
