"""Runs on a server: writes to its Directus, up to 50 times per second, and prints what was acknowledged.

Arguments: the address of Directus, and the account's mail address. Its password is the first line of standard input;
the program ends when that is closed.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

ADDRESS, MAIL = sys.argv[1:3]
PASSWORD = sys.stdin.readline().strip()
THREADS, EVERY = 5, 0.1
ended = threading.Event()


def ask(path: str, body: dict, token: str) -> tuple[int, dict]:
    client = http.client.HTTPConnection(ADDRESS, 8055, timeout=10)
    try:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        client.request("POST", path, json.dumps(body), headers)
        answer = client.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}
    finally:
        client.close()


def write(name: int) -> None:
    token, number = "", 0
    while not ended.wait(EVERY):
        try:
            if not token:
                token = ask("/auth/login", {"email": MAIL, "password": PASSWORD}, "")[1]["data"]["access_token"]
            number += 1
            code = f"drill-{name}-{number}-{time.time_ns()}"
            status, _ = ask("/items/invite_codes", {"code": code, "remaining_uses": 1}, token)
            if status == 200:
                print(code, flush=True)
            elif status in (401, 403):
                token = ""
        except (OSError, http.client.HTTPException, KeyError, ValueError):
            pass  # it is stopped at some moment


threads = [threading.Thread(target=write, args=(name,)) for name in range(THREADS)]
for thread in threads:
    thread.start()
sys.stdin.read()
ended.set()
for thread in threads:
    thread.join()
