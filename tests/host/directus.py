"""Requests to Directus on a lab host, from inside the network, since production does not publish its port."""

from __future__ import annotations

import json
import shlex

import pytest

# Runs in the api's container. Arguments: whose token, method, path, body. Prints [status, answer].
ASK = """
import json, os, sys, urllib.request as r
from urllib.error import HTTPError
who, method, path, body = sys.argv[1:5]

def ask(url, method="GET", body=None, headers={}):
    data = body.encode() if body else None
    q = r.Request(url, method=method, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with r.urlopen(q, timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()

if who == "admin":
    password = open("/run/secrets/DATABASE_ADMIN_PASSWORD").read()
    login = {"email": os.environ["DATABASE_ADMIN_EMAIL"], "password": password}
    status, text = ask("http://cms:8055/auth/login", "POST", json.dumps(login))
    token = json.loads(text)["data"]["access_token"] if status == 200 else "refused"
else:
    key = {"X-Vault-Token": open("/vault-data/api.token").read()}
    secret = ask("http://vault:8200/v1/kv/data/system/directus/" + who, headers=key)[1]
    token = json.loads(secret)["data"]["data"]["token"]
status, text = ask("http://cms:8055" + path, method, body, {"Authorization": "Bearer " + token})
print(json.dumps([status, json.loads(text) if text else None]))
"""


class Directus:
    """One user's view of it: the administrator, or a service user by its name."""

    def __init__(self, server, who: str = "admin") -> None:
        self.server, self.who = server, who

    def status(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """The HTTP status and the answer."""
        arguments = [self.who, method, path, json.dumps(body) if body is not None else ""]
        command = " ".join(shlex.quote(part) for part in ("python3", "-c", ASK, *arguments))
        return tuple(json.loads(self.server.compose(f"exec -T api {command}")))

    def call(self, method: str, path: str, body: object = None) -> object:
        """What is under `data`; fails the test for a refusal."""
        status, answer = self.status(method, path, body)
        if status >= 400:
            pytest.fail(f"{self.who}: {method} {path}: {status} {answer}")
        return answer["data"] if answer else None

    def search(self, collection: str, **query: object) -> list[dict]:
        return self.call("SEARCH", f"/{collection}", {"query": {"limit": -1, **query}})
