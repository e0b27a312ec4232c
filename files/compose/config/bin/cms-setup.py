"""Run OpenMates' own cms-setup, in its image, until Directus has everything that the image's schema files declare.

The program's exit code is not reliable: it is 0 even if Directus refused requests. It skips requests that are answered
with 503, logs in only once and continues after that session has expired, and stores the first invite code in its first
pass only. This wrapper therefore reads the collections and fields from Directus, repeats the program until none is
missing and nothing new was refused, and otherwise fails with their names. It writes the expected collections and fields
to expected.json, for the readiness probe.

It uses Python's standard library and PyYAML, which the image has for its schema files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from collections.abc import Iterable
from pathlib import Path

from cms_schema import FOLDER, Invalid, Schema, read_expected, read_schema
from directus_session import Directus, Problem, Refused

TICK = 15.0  # seconds between two lines of progress
LONGEST_PAUSE = 30.0  # seconds between two passes
# Passes in a row without a change and without a temporary cause, after which it fails.
STUBBORN = 3
INVITE_COLLECTION = "invite_codes"
# Fields of a user that only the api writes, at sign-up.
SIGNED_UP = "vault_key_id"

INVITE_CODE = re.compile(r"(?<![\w-])[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}(?![\w-])")
TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
FILE_BEGUN = re.compile(r"\bprocessing schema file: ([\w.-]+)", re.IGNORECASE)
FILE_DONE = re.compile(r"finished processing: [\w.-]+", re.IGNORECASE)
REFUSED = re.compile(r"^\W*(failed|error|exception)\b|success: false", re.IGNORECASE)
REASON = re.compile(r"^response (body|status)", re.IGNORECASE)
# Temporary causes: the pressure limiter, an expired session, no connection. Not the word alone: a field may be named
# after connections, and its permanent refusal would be retried until the deadline.
PASSING = re.compile(
    r"\b(401|429|502|503|504)\b|under pressure|token_expired|timed out|max retries"
    r"|connection ?(pool|error|refused|reset|aborted|closed)|(closed|new) connection",
    re.IGNORECASE,
)


def say(text: str) -> None:
    print(f"cms-setup: {text}", flush=True)


def plural(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


# ---------------------------------------------------------------- settings and secrets


@dataclasses.dataclass
class Settings:
    """Settings from the Compose file and the secrets directory."""

    command: list[str]
    secrets: dict[str, str]
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return self.environment.get("CMS_URL", "http://cms:8055").rstrip("/")

    @property
    def schemas(self) -> Path:
        return Path(self.environment.get("SCHEMAS_DIR", FOLDER))

    @property
    def source(self) -> str:
        return self.environment.get("CMS_SETUP_SOURCE", "cms-setup")

    @property
    def expected_file(self) -> Path:
        return Path(self.environment.get("CMS_SETUP_EXPECTED", "/cms-schema/expected.json"))

    @property
    def timeout(self) -> float:
        return float(self.environment.get("CMS_SETUP_TIMEOUT", "3600"))

    @property
    def invites(self) -> bool:
        """Whether sign-up requires an invite code, by the rules of OpenMates' cms-setup."""
        mode = self.environment.get("SELF_HOST_SIGNUP_MODE") or "invite_only"
        return mode.strip().lower() in ("invite_only", "invite_and_domain")


def read_settings(command: list[str], environment: dict[str, str]) -> Settings:
    """Raises Problem for an unreadable secret, which the program would treat as empty."""
    if not command:
        raise Problem("there is no command to run: the container's command is the program of the image.")
    folder = Path(environment.get("CMS_SETUP_SECRETS", "/run/secrets"))
    secrets: dict[str, str] = {}
    try:
        for file in sorted(folder.iterdir()):
            if file.is_file():
                secrets[file.name] = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Problem(
            f"{error.filename} cannot be read by user {os.getuid()}: {error.strerror}. The service's `user:` in"
            " docker-compose.yml must be the owner of its secrets (openmates_services)."
        ) from None
    for name in ("DATABASE_ADMIN_EMAIL", "DATABASE_ADMIN_PASSWORD"):
        if not (secrets.get(name) or environment.get(name)):
            raise Problem(f"{name} is neither in {folder} nor in the environment, so there is no login to Directus.")
    return Settings(command, secrets, environment)


class Redactor:
    """Removes secrets from the program's output: known ones, and text that looks like a code or token."""

    def __init__(self, values: Iterable[str]) -> None:
        known = sorted({value for value in values if len(value) >= 6}, key=len, reverse=True)
        self.known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self.known:
            text = self.known.sub("********", text)
        return INVITE_CODE.sub("********", TOKEN.sub("********", text))


# ---------------------------------------------------------------- the list of what is expected


def write_expected(file: Path, source: str, collections: dict[str, list[str]], digest: str, invite: str) -> None:
    """`digest` is empty until the files are applied in full; `invite` is that of the first code. Raises Problem."""
    part = file.with_suffix(".part")
    try:
        content = {"source": source, "digest": digest, "invite": invite, "collections": collections}
        text = json.dumps(content, indent=1, sort_keys=True)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise Problem(f"{file} cannot be written by user {os.getuid()}: {error.strerror}. site.yml hands its volume"
                      " over to that user.") from None  # fmt: skip


# ---------------------------------------------------------------- Directus


def missing(directus: Directus, expected: dict[str, list[str]]) -> dict[str, list[str]]:
    """Missing collections, without fields, and missing fields of existing collections."""
    # An entry without a table is a folder, or the rest of a collection whose table was removed.
    found = directus.everything("/collections")
    collections = {item["collection"] for item in found if item.get("schema", {}) is not None}
    fields: dict[str, set[str]] = {}
    for item in directus.everything("/fields"):
        fields.setdefault(item["collection"], set()).add(item["field"])
    lacking: dict[str, list[str]] = {}
    for name, declared in sorted(expected.items()):
        if name not in collections:
            lacking[name] = []
        elif gone := sorted(set(declared) - fields.get(name, set())):
            lacking[name] = gone
    return lacking


def listed(lacking: dict[str, list[str]], longest: int = 40) -> str:
    """Missing collections and fields, by name."""
    collections = [name for name, fields in lacking.items() if not fields]
    fields = [f"{name}.{field}" for name, fields in lacking.items() for field in fields]
    parts = []
    for thing, names in (("collection", collections), ("field", fields)):
        if names:
            more = f" and {len(names) - longest} more" if len(names) > longest else ""
            parts.append(f"{plural(len(names), thing)}: {', '.join(names[:longest])}{more}")
    return "; ".join(parts)


def ensure_invite_code(directus: Directus, settings: Settings, expected: dict[str, list[str]], former: str) -> str:
    """Store the inventory's code unless an account has signed up; a sign-up deletes it. Raises Problem.

    `former`: the digest of the code that was stored before, which is removed if it is another one. Returns the present.
    """
    if INVITE_COLLECTION not in expected or not settings.invites:
        return former
    code = settings.secrets.get("SELF_HOST_FIRST_INVITE_CODE", "")
    if not code:
        raise Problem("there is no first invite code, so no one could sign up: set openmates_first_invite_code.")
    items, digest = f"/items/{INVITE_COLLECTION}", digest_of(code)
    if not directus.search(items, {"code": {"_eq": code}}, ["id"]):
        if SIGNED_UP in expected.get("directus_users", []):
            signed_up = directus.search("/users", {SIGNED_UP: {"_nnull": True}}, ["id"])
        else:  # other codes than the former one mean that it was used before
            signed_up = [item for item in directus.everything(items) if digest_of(item["code"]) != former]
        if signed_up:
            return former
        store_invite_code(directus, items, code)
    if former not in ("", digest):
        for item in directus.everything(items):
            if digest_of(item["code"]) == former:
                directus.ask("DELETE", f"{items}/{item['id']}")
                say("the first invite code has changed: the former one is removed")
    return digest


def digest_of(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def store_invite_code(directus: Directus, items: str, code: str) -> None:
    try:
        directus.ask("POST", items, {"code": code, "remaining_uses": 1})
    except Refused as error:
        if error.code != "RECORD_NOT_UNIQUE":  # a repeated request whose first answer was lost
            raise
    if not directus.search(items, {"code": {"_eq": code}}, ["id"]):
        raise Problem("the first invite code was stored, but Directus does not have it, so no one could sign up.")
    say("the first invite code was missing: stored")


# ---------------------------------------------------------------- passes


class Pass:
    """One run of the image's own program: prints its output without secrets, and records refusals."""

    def __init__(self, number: int, settings: Settings, schema: Schema, redact: Redactor, files: list[Path]) -> None:
        """`files`: the schema files to apply."""
        self.number, self.settings, self.schema, self.redact = number, settings, schema, redact
        self.files = files
        self.finished = 0
        self.unfinished = {file.name for file in files}
        self.file = ""  # the file that the program is processing
        self.refused: list[str] = []
        self.passing = False
        self.named: set[str] = set()
        self.code: int | None = None

    def run(self, deadline: float) -> None:
        """To its end, or until the deadline; then `code` is None."""
        environment = self.settings.environment | self.settings.secrets | {"PYTHONUNBUFFERED": "1"}
        with tempfile.TemporaryDirectory() as folder:
            if len(self.files) < len(self.schema.files):
                environment["SCHEMAS_DIR"] = folder
                for file in self.files:
                    shutil.copy(file, folder)
            self.watch(environment, deadline)

    def watch(self, environment: dict[str, str], deadline: float) -> None:
        try:
            process = subprocess.Popen(
                self.settings.command, env=environment, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise Problem(f"`{' '.join(self.settings.command)}` (openmates_cms_setup_command) cannot be run in"
                          f" {self.settings.source}: {error.strerror}.") from None  # fmt: skip
        reader = threading.Thread(target=self.read, args=(process.stdout,), daemon=True)
        reader.start()
        begin = time.monotonic()
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, min(TICK, deadline - time.monotonic())))
            if process.poll() is None:
                say(f"pass {self.number}: {self.finished} of {plural(len(self.files), 'schema file')},"
                    f" {time.monotonic() - begin:.0f} s, {plural(len(self.refused), 'refusal')}")  # fmt: skip
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        else:
            self.code = process.returncode
        reader.join(10)

    def read(self, stream: t.IO[str]) -> None:
        reasoned = False  # whether the line before is a refusal, which the next ones give the reason of
        accepted = True  # whether nothing was refused in this file
        for line in stream:
            text = self.redact(line.rstrip("\n"))
            print(text, flush=True)
            if begun := FILE_BEGUN.search(text):
                self.file, accepted = begun[1], True
            self.named |= self.schema.more.keys() & set(re.findall(r"\w+", text))
            if REFUSED.search(text):
                self.refused.append(text.strip())
                reasoned, accepted = True, False
            elif not (reasoned and REASON.search(text)):
                reasoned = False
            if reasoned and PASSING.search(text):
                self.passing = True
            if FILE_DONE.search(text):
                self.finished += 1
                if accepted:
                    self.unfinished.discard(self.file)
                self.file = ""


def work(settings: Settings) -> None:
    """All of it. Raises Problem."""
    end = time.monotonic() + settings.timeout
    redact = Redactor(settings.secrets.values())
    schema = read_schema(settings.schemas, settings.command)
    before = read_expected(settings.expected_file)
    invite = str(before.get("invite", ""))
    named: set[str] = schema.more.keys() & before["collections"].keys()
    expected = schema.expected(named)
    directus = Directus(
        settings.url,
        settings.environment.get("DATABASE_ADMIN_EMAIL") or settings.secrets["DATABASE_ADMIN_EMAIL"],
        settings.secrets.get("DATABASE_ADMIN_PASSWORD") or settings.environment["DATABASE_ADMIN_PASSWORD"],
        end,
    )
    directus.wait()
    directus.log_in()
    try:
        lacking = missing(directus, expected)
        if not lacking and before["digest"] == schema.digest:
            invite = ensure_invite_code(directus, settings, expected, invite)
            write_expected(settings.expected_file, settings.source, expected, schema.digest, invite)
            say(f"all {plural(len(expected), 'collection')} of {settings.source} are there already: nothing to do")
            return
        write_expected(settings.expected_file, settings.source, expected, "", invite)
        count = plural(len(schema.files), "schema file")
        say(f"{count} of {settings.source}; missing: {listed(lacking, 5) or 'nothing'}")
        expected = repeat(directus, settings, schema, redact, named, end)
        invite = ensure_invite_code(directus, settings, expected, invite)
        write_expected(settings.expected_file, settings.source, expected, schema.digest, invite)
    finally:
        directus.log_out()


def repeat(
    directus: Directus, settings: Settings, schema: Schema, redact: Redactor, named: set[str], end: float
) -> dict[str, list[str]]:
    """Run passes until nothing is missing and nothing new was refused; what is expected then. Raises Problem."""
    number = same = 0
    files = list(schema.files)
    reason = ""  # the newest refusal; a pass that the deadline cuts off may have met none
    last: tuple[dict, set[str]] | None = None
    while True:
        number += 1
        say(f"pass {number} begins")
        done = Pass(number, settings, schema, redact, files)
        done.run(end)
        named |= done.named
        expected = schema.expected(named)
        directus.deadline = max(end, time.monotonic() + 30)  # what the result is can be asked even if time is over
        directus.log_in()  # before another pass does: a password that changed meanwhile is refused once, not twice
        lacking = missing(directus, expected)
        refused = set(done.refused)
        reason = done.refused[0] if refused else reason
        result = (lacking, refused)
        ended = "was cut off" if done.code is None else f"ended with exit code {done.code}"
        say(f"pass {number} {ended}, {plural(len(refused), 'refusal')};"
            f" missing: {listed(lacking, 5) or 'nothing'}")  # fmt: skip
        if done.code == 0 and not lacking and (not refused or (last == result and not done.passing)):
            say(f"all {plural(len(expected), 'collection')} of {settings.source} are there, with their fields")
            if refused:
                say(f"the same was refused twice, though nothing is missing: {sorted(refused)[0]}")
            if left := sorted(schema.more.keys() - named):
                say(f"declared in the image's files, but this version's program does not make them: {', '.join(left)}")
            return expected
        files = schema.left(lacking, done.unfinished)  # a pass longer than a session would never finish otherwise
        same = same + 1 if last == result and not done.passing else 0
        last = result
        why = f"after {plural(number, 'pass').replace('passs', 'passes')} of the image's own program"
        if done.code is None or time.monotonic() >= end:
            limit = f"{settings.timeout:.0f} s (openmates_cms_setup_timeout)"
            raise Problem(f"not done within {limit}: {verdict(lacking, reason)} {why}.")
        if same + 1 >= STUBBORN:
            raise Problem(f"{verdict(lacking, reason)} {why}, the last {STUBBORN} with the same result.")
        time.sleep(min(LONGEST_PAUSE, 2.0 * (same + 1), max(0.0, end - time.monotonic())))


def verdict(lacking: dict[str, list[str]], reason: str) -> str:
    """The problem, and the refused requests."""
    text = f"Directus lacks {listed(lacking)}" if lacking else "nothing is missing, but the program did not end well"
    return f"{text} (refused: {reason[:200]})" if reason else text


def main() -> int:
    settings = None
    try:
        settings = read_settings(sys.argv[1:], dict(os.environ))
        work(settings)
    except (Problem, Invalid) as problem:
        text = str(problem)
    except OSError as error:
        text = f"Directus cannot be asked: {getattr(error, 'reason', error)}. See `docker compose logs cms`."
    else:
        return 0
    redact = Redactor(settings.secrets.values() if settings else ())
    print(f"cms-setup: failed: {redact(text)}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
