"""A person signs up, logs in, and uses an App: through Caddy, the api, Directus, Vault, the cache and the worker."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets

import pytest
from directus import Directus
from web import ask

from lab import wait_until

# Typed in from the lab's inventory.
ORIGIN = "https://web.example.test"
LOGS = "/var/lib/docker/volumes/openmates-api-logs/_data"


def hashed(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class Person:
    """A browser at the frontend, with its cookie."""

    def __init__(self, server) -> None:
        self.server, self.cookie, self.cookie_attributes = server, "", set()
        self.username = f"person_{secrets.token_hex(4)}"
        self.email = f"{self.username}@example.net"
        self.account = {"hashed_email": hashed(self.email), "lookup_hash": hashed(secrets.token_hex(16))}

    def post(self, path: str, body: dict, **headers: str) -> tuple[int, dict]:
        headers = {"Content-Type": "application/json", "Origin": ORIGIN, **headers}
        if self.cookie:
            headers["Cookie"] = self.cookie
        answer = ask(self.server, "POST", path, body=json.dumps(body), headers=headers)
        if cookie := answer.getheader("Set-Cookie"):
            self.cookie, *attributes = cookie.split("; ")
            self.cookie_attributes = set(attributes)
        return answer.status, json.loads(answer.read())

    def sign_up(self, code: str) -> dict:
        body = {"username": self.username, "invite_code": code, "encrypted_email": "e", "user_email_salt": "s"}
        body |= {"encrypted_master_key": "m", "key_iv": "i", "salt": "s", **self.account}
        return self.post("/v1/auth/setup_password", body)[1]


@pytest.fixture(scope="module")
def admin(server) -> Directus:
    return Directus(server)


@pytest.fixture(scope="module")
def person(server, admin) -> Person:
    code = f"TEST-{secrets.token_hex(4).upper()}"
    admin.call("POST", "/items/invite_codes", {"code": code, "remaining_uses": 1})
    person = Person(server)
    assert person.sign_up(code)["success"], "the sign-up failed"
    assert not Person(server).sign_up(code)["success"], "an invite code counts once"
    yield person
    found = admin.search("users", filter={"hashed_email": {"_eq": person.account["hashed_email"]}})
    admin.call("DELETE", "/users", [user["id"] for user in found])


def test_the_database_has_the_name_encrypted_and_the_login_reads_it_back(person, admin):
    (user,) = admin.search("users", filter={"hashed_email": {"_eq": person.account["hashed_email"]}})
    assert user["encrypted_username"].startswith("vault:v1:")
    person.post("/v1/auth/lookup", {"hashed_email": person.account["hashed_email"]})
    _, answer = person.post("/v1/auth/login", {**person.account, "session_id": "a-browser"})
    assert (answer["success"], answer["tfa_required"], answer["user"]["username"]) == (True, False, person.username)
    assert {"Domain=.example.test", "Secure", "HttpOnly", "SameSite=lax"} <= person.cookie_attributes
    _, answer = person.post("/v1/auth/session", {"session_id": "a-browser"})
    assert (answer["success"], answer["user"]["username"]) == (True, person.username)


def test_a_signed_in_persons_request_reaches_an_app_and_its_answer_comes_back(person, server):
    text = secrets.token_hex(8)
    assert person.post("/v1/apps/app-sample/skills/echo", {"text": text}) == (200, {"text": text})
    assert Person(server).post("/v1/apps/app-sample/skills/echo", {"text": text})[0] == 401


def test_the_worker_makes_an_email_code(person, server, admin):
    code = f"TEST-{secrets.token_hex(4).upper()}"
    row = admin.call("POST", "/items/invite_codes", {"code": code, "remaining_uses": 1})
    newcomer = Person(server)
    body = {"email": newcomer.email, "hashed_email": newcomer.account["hashed_email"], "invite_code": code}
    try:
        status, answer = newcomer.post("/v1/auth/request_confirm_email_code", body)
        assert (status, answer["success"]) == (200, True), answer
        ask_cache = "REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) redis-cli get"
        read = f"exec -T cache sh -c '{ask_cache} email_verification:{newcomer.email}'"
        wait_until(lambda: server.compose(read).strip().isdigit(), "the code is made", 60)
    finally:
        admin.call("DELETE", f"/items/invite_codes/{row['id']}")


def test_a_request_from_another_frontend_is_refused(person):
    assert person.post("/v1/auth/lookup", {"hashed_email": "x"}, Origin="https://web.example.com")[0] == 403


def test_the_sign_up_is_in_the_log_that_is_kept(person, server, admin):
    (user,) = admin.search("users", filter={"hashed_email": {"_eq": person.account["hashed_email"]}})
    lines = [json.loads(line) for line in server.run(f"cat {LOGS}/audit-compliance.log").splitlines()]
    events = {line["event_type"] for line in lines if line.get("user_id") == user["id"]}
    assert {"user_creation", "consent"} <= events
    assert server.run(f"stat -c %u {LOGS}/financial-compliance.log") == "1000"
