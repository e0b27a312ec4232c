"""What OpenMates' cms-setup does to a Directus, with everything that makes it unreliable.

It logs in once, and goes on when that session has expired. A request that is refused, with 503 too, skips what it was
for. It makes only the first collection of a file. The first invite code is stored, and printed, by the one pass that
makes the collection for it. It ends with exit code 0 and a success message whatever failed.

Knobs for tests, from the environment:

    SAMPLE_SETUP_REFUSE     collection=passes, ...: in the first so many passes the collection is refused as by a 503
    SAMPLE_SETUP_STATE      the file that counts the passes; default /tmp/sample-setup-passes
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

URL = "http://cms:8055"  # upstream's cannot be changed either
SCHEMAS = Path(os.environ.get("SCHEMAS_DIR", "/usr/src/app/schemas"))
STATE = Path(os.environ.get("SAMPLE_SETUP_STATE", "/tmp/sample-setup-passes"))  # noqa: S108 - the container's own
TYPES = {"datetime": "dateTime", "string": "string", "text": "text", "integer": "integer", "boolean": "boolean"}
TYPES |= {"uuid": "uuid", "json": "json", "date": "date"}
BUSY = '503 Service Unavailable: Service "api" is unavailable. Under pressure.'


class Refusal(Exception):
    """Directus's answer is an error."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(f"{status}: {text}")


def ask(method: str, path: str, body: object = None, token: str = "") -> object:
    """One request, never repeated. Raises Refusal."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}{path}", method=method, data=data, headers=headers)  # noqa: S310 - URL's
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise Refusal(error.code, error.read().decode(errors="replace")) from None
    return json.loads(text).get("data") if text else None


def there(path: str, token: str) -> bool:
    """As upstream's: whatever keeps Directus from answering means that the thing is not there."""
    try:
        ask("GET", path, token=token)
    except (Refusal, OSError):
        return False
    return True


def wait_for_directus() -> None:
    for _ in range(30):
        try:
            urllib.request.urlopen(f"{URL}/server/ping", timeout=10).close()  # noqa: S310 - URL's
            return
        except OSError:
            time.sleep(4)
    print("Directus did not answer in two minutes; going on")


def refused_by_request(name: str) -> bool:
    """Whether SAMPLE_SETUP_REFUSE has this pass refuse the collection."""
    wanted = dict(part.strip().split("=") for part in os.environ.get("SAMPLE_SETUP_REFUSE", "").split(",") if part)
    return int(STATE.read_text() if STATE.exists() else 0) <= int(wanted.get(name, 0))


def field_of(name: str, declared: dict) -> dict:
    relation = "relation" in declared
    return {
        "field": name,
        "type": "uuid" if relation else TYPES[declared["type"]],
        "meta": {"note": declared.get("note"), "special": ["m2o"] if relation else None},
        "schema": {
            "default_value": declared.get("default"),
            "is_nullable": declared.get("nullable", True),
            "is_unique": declared.get("unique", False),
            "max_length": declared.get("length"),
        },
    }


def make_collection(name: str, fields: dict, token: str) -> None:
    primary = next((key for key, declared in fields.items() if declared.get("primary")), "id")
    key = {
        "field": primary,
        "type": "uuid",
        "meta": {"special": ["uuid"], "readonly": True, "hidden": True},
        "schema": {"is_primary_key": True},
    }
    body = {"collection": name, "meta": {}, "schema": {"name": name}, "fields": [key]}
    ask("POST", "/collections", body, token)
    print(f"Made collection {name}")
    time.sleep(1)


def make_relation(name: str, field: str, related: str, token: str) -> None:
    if there(f"/relations/{name}/{field}", token):
        return
    try:
        ask("POST", "/relations", {"collection": name, "field": field, "related_collection": related}, token)
        print(f"Made relation {name}.{field}")
    except (Refusal, OSError) as error:
        print(f"Error making relation {name}.{field}: {error}")


def apply(file: Path, token: str) -> tuple[bool, bool]:
    """Whether the file's first collection was dealt with, and whether it was made."""
    name, declared = next(iter(yaml.safe_load(file.read_text()).items()))
    fields = declared["fields"]
    is_new = not name.startswith("directus_") and not there(f"/collections/{name}", token)
    if is_new:
        try:
            if refused_by_request(name):
                raise Refusal(503, BUSY)
            make_collection(name, fields, token)
        except (Refusal, OSError) as error:
            print(f"Failed to make collection {name}: {error}")
            return False, False
    for field, words in fields.items():
        if words.get("primary") or there(f"/fields/{name}/{field}", token):
            continue
        try:
            ask("POST", f"/fields/{name}", field_of(field, words), token)
            print(f"Made field {name}.{field}")
        except (Refusal, OSError) as error:
            print(f"Failed to make field {name}.{field}: {error}")
    relations = {field: words["relation"] for field, words in fields.items() if "relation" in words}
    if relations:
        time.sleep(2)
    for field, relation in relations.items():
        make_relation(name, field, relation["collection"], token)
    return True, is_new


def store_invite_code(token: str) -> None:
    code = os.environ.get("SELF_HOST_FIRST_INVITE_CODE", "")
    if not code:
        digits = f"{secrets.randbelow(10**12):012}"
        code = f"{digits[:4]}-{digits[4:8]}-{digits[8:]}"
        print(f"Generated invite code: {code}")
    try:
        ask("POST", "/items/invite_codes", {"code": code, "remaining_uses": 1, "is_admin": False}, token)
        print(f"First Signup Invite Code: {code}")
    except (Refusal, OSError) as error:
        print(f"Error storing the first invite code: {error}")


def main() -> None:
    STATE.write_text(str(int(STATE.read_text() if STATE.exists() else 0) + 1))
    wait_for_directus()
    account = {"email": os.environ.get("DATABASE_ADMIN_EMAIL"), "password": os.environ.get("DATABASE_ADMIN_PASSWORD")}
    try:
        token = ask("POST", "/auth/login", account)["access_token"]
    except (Refusal, OSError) as error:
        print(f"Login failed: {error}")
        sys.exit(1)
    codes_are_new = False
    # The users first, because others refer to them.
    for file in sorted(SCHEMAS.glob("*.yml"), key=lambda item: (item.stem != "users", item.stem)):
        print(f"--- Processing schema file: {file.name} ---")
        success, is_new = apply(file, token)
        codes_are_new |= is_new and file.stem == "invite_codes"
        print(f"--- Finished processing: {file.name} (Success: {success}) ---")
    if codes_are_new and os.environ.get("SELF_HOST_SIGNUP_MODE", "invite_only") in ("invite_only", "invite_and_domain"):
        store_invite_code(token)
    print("Schema setup complete")


if __name__ == "__main__":
    main()
