#!/usr/bin/env python3
"""Test, from inside the api's container, all dependencies of the api. The host's openmates-ready runs it.

It uses the api's own login, token and password. It prints one JSON object,
{"parts": [{"name", "ok", "detail"}], "login": "accepted" | "rejected" | "paused" | "unanswered" | "not tried"}, and no
secret. It uses only the standard library and a bare Celery client, since importing the application takes 11 CPU
seconds. Everything that it creates expires or is removed, except one transit key.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import math
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

DEADLINE = 15.0  # seconds for all parts; unfinished ones are reported as such
HTTP_TIMEOUT = 5.0
CACHE_TIMEOUT = 3.0
TASK_LIMIT = 1260.0  # the longest of OpenMates' own limits; a worker busy for longer hangs
TASK_TIMEOUT = 4.0  # an idle worker answers within milliseconds
CONTROL_TIMEOUT = 2.5  # the parent process of a busy worker answers at once, unless the machine is overloaded
TASK_EXPIRES = 60
MIN_TOKEN_SECONDS = 3600
PROBE_KEY = "openmates-readiness"
OWN_ADDRESS = "192.0.2.2"  # the api limits requests per client address; only its health check uses this one too


class Failure(Exception):
    """Why a part is not ready."""


class Parts:
    """The results, written by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, tuple[bool, str]] = {}

    def set(self, name: str, ok: bool, detail: str) -> None:
        with self._lock:
            self._results[name] = (ok, " ".join(detail.split()))

    def run(self, name: str, function: Callable[[], str]) -> bool:
        """Record what a function returns, or why it failed."""
        try:
            self.set(name, True, function())
        except Failure as failure:
            self.set(name, False, str(failure))
            return False
        except Exception as error:  # a defect of this program must not look like a working part
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.set(name, False, f"the probe failed: {type(error).__name__} in {where.name}, line {where.lineno}")
            return False
        return True

    def listed(self, names: list[str], unfinished: str) -> list[dict]:
        with self._lock:
            results = dict(self._results)
        missing = (False, unfinished)
        entries = [(name, *results.get(name, missing)) for name in names]
        return [{"name": name, "ok": ok, "detail": detail} for name, ok, detail in entries]


# ---------------------------------------------------------------- HTTP


def call(method: str, url: str, headers: dict | None = None, body: object = None) -> tuple[int, dict, bytes]:
    """Status, headers and body of one request. Raises Failure if there is no answer."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    where = f"{parts.hostname}:{parts.port or ''}".rstrip(":")
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=HTTP_TIMEOUT)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json", **(headers or {})} if data else (headers or {})
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), data, sent)
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    except TimeoutError:
        raise Failure(f"no answer from {where} within {HTTP_TIMEOUT:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"no answer from {where}: {error or type(error).__name__}") from None


def parsed(body: bytes) -> dict:
    with contextlib.suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}


def code_of(body: bytes) -> str:
    """Directus's code of the first error, such as INVALID_CREDENTIALS."""
    first = next(iter(parsed(body).get("errors") or []), None)
    return str((first.get("extensions") or {}).get("code", "")) if isinstance(first, dict) else ""


def errors_of(body: bytes) -> str:
    """The text of an error answer of Directus ({errors: [{message}]}) or of Vault ({errors: [text]})."""
    errors = parsed(body).get("errors") or []
    texts = [error.get("message", "") if isinstance(error, dict) else str(error) for error in errors]
    return "; ".join(filter(None, texts))[:300]


# ---------------------------------------------------------------- Directus


class Directus:
    """The content store, accessed like by the api."""

    def __init__(self, parts: Parts, expected_file: Path, skip_login: str) -> None:
        self.parts, self.expected_file, self.skip_login = parts, expected_file, skip_login
        self.url = os.environ.get("CMS_URL", "http://cms:8055").rstrip("/")
        self.login_result = "not tried"

    def check(self, cache_works: Callable[[], bool]) -> None:
        tokens: dict = {}

        def login() -> str:
            tokens.update(self.log_in(cache_works))
            return f"as {os.environ['DATABASE_ADMIN_EMAIL']}"

        if not self.parts.run("directus_login", login):
            for name in ("collections", "fields"):
                self.parts.set(name, False, "not asked: there is no login to Directus")
            return
        try:
            self.compare(tokens["access_token"])
        finally:
            # A session would stay in Directus's database until its refresh token expires, which takes up to 30 days.
            with contextlib.suppress(Failure, KeyError):
                body = {"refresh_token": tokens["refresh_token"], "mode": "json"}
                call("POST", f"{self.url}/auth/logout", body=body)

    def ask(self, method: str, path: str, headers: dict | None = None, body: object = None) -> tuple[int, bytes]:
        """Like call, but asks again where Directus is under pressure, which it answers with 503 and Retry-After."""
        for attempt in range(3):
            status, answered, content = call(method, self.url + path, headers, body)
            if status != 503 or attempt == 2:
                break
            after = answered.get("retry-after", "")
            time.sleep(min(float(after) if after.isdigit() else 1.0, 2.0))
        return status, content

    def log_in(self, cache_works: Callable[[], bool]) -> dict:
        missing = [name for name in ("DATABASE_ADMIN_EMAIL", "DATABASE_ADMIN_PASSWORD") if not os.environ.get(name)]
        if missing:
            raise Failure(f"{' and '.join(missing)} is missing in the api's environment, so the api cannot log in")
        if self.skip_login:
            raise Failure(self.skip_login)
        # Directus counts a login that times out as a rejected one, and suspends the administrator after 25. So no login
        # is attempted while its dependencies do not answer.
        if not cache_works():
            raise Failure("not tried: the cache cannot be used, and Directus would count the failed login")
        status, content = self.ask("GET", "/server/ping")
        if status != 200:
            raise Failure(f"not tried: Directus answers {status} {errors_of(content)}")
        body = {
            "email": os.environ["DATABASE_ADMIN_EMAIL"],
            "password": os.environ["DATABASE_ADMIN_PASSWORD"],
            "mode": "json",
        }
        self.login_result = "unanswered"
        status, content = self.ask("POST", "/auth/login", body=body)
        if status == 200:
            self.login_result = "accepted"
            return parsed(content).get("data") or {}
        if code_of(content) == "USER_SUSPENDED":  # not every version has this code
            self.login_result = "paused"  # such a login is not counted
            raise Failure("Directus has suspended the administrator, after too many rejected logins")
        if status in (400, 401, 403):
            self.login_result = "rejected"
            why = "the password is wrong, or the account is suspended"  # Directus 11.17 answers the same to both
            if code_of(content) == "INVALID_OTP":
                why = "the account has a second factor, which site.yml --tags directus removes"
            raise Failure(f"Directus rejects the api's login as {body['email']}, {why}: {status} {errors_of(content)}")
        raise Failure(f"Directus answers the login with {status} {errors_of(content)}")

    def compare(self, token: str) -> None:
        """Compare the collections and fields of cms-setup with those of Directus."""
        expected: dict[str, list[str]] = {}
        existing: set[str] = set()
        headers = {"Authorization": f"Bearer {token}", "Cache-Control": "no-store"}

        def listed(path: str) -> list[dict]:
            status, content = self.ask("GET", path, headers)
            if status != 200:
                raise Failure(f"Directus answers {path} with {status} {errors_of(content)}")
            return parsed(content).get("data") or []

        def collections() -> str:
            expected.update(read_expected(self.expected_file))
            for item in listed("/collections"):
                # Without a table it is a folder, or the rest of a collection whose table was removed.
                if item.get("schema", {}) is not None or not expected.get(item.get("collection", "")):
                    existing.add(item.get("collection", ""))
            missing = sorted(set(expected) - existing)
            if missing:
                raise Failure(f"{len(missing)} of {len(expected)} are missing: {', '.join(missing)}")
            return f"all {len(expected)} are there"

        def fields() -> str:
            if not expected:
                raise Failure("not compared: it is not known which fields are expected")
            if not existing:
                raise Failure("not asked: Directus did not list its collections")
            found: dict[str, set[str]] = {}
            for item in listed("/fields"):
                found.setdefault(item.get("collection", ""), set()).add(item.get("field", ""))
            wanted = {name: set(names) for name, names in expected.items() if name in existing}
            missing = sorted(f"{name}.{field}" for name in wanted for field in wanted[name] - found.get(name, set()))
            if missing:
                raise Failure(f"{len(missing)} of {sum(map(len, wanted.values()))} are missing: {', '.join(missing)}")
            return f"all {sum(map(len, wanted.values()))} are there"

        self.parts.run("collections", collections)
        self.parts.run("fields", fields)


def read_expected(path: Path) -> dict[str, list[str]]:
    """The collections and fields of cms-setup, as it listed them."""
    remedy = "Run cms-setup: site.yml --tags stack, or `docker compose up cms-setup` on the host"
    try:
        collections = json.loads(path.read_text())["collections"]
        found = {str(name): [str(field) for field in fields] for name, fields in collections.items()}
    except FileNotFoundError:
        raise Failure(
            f"{path} does not exist: cms-setup has not written which collections it expects. {remedy}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path} cannot be used ({type(error).__name__}). {remedy}") from None
    if not found:
        raise Failure(f"{path} names no collection. {remedy}")
    return found


# ---------------------------------------------------------------- Vault


class Vault:
    """The secrets store, accessed with the api's own token."""

    def __init__(self, parts: Parts, token_file: Path) -> None:
        self.parts, self.token_file = parts, token_file
        self.url = os.environ.get("VAULT_URL", "http://vault:8200").rstrip("/")
        self.token = ""

    def check(self) -> None:
        if not self.parts.run("vault_token", self.lookup):
            for name in ("vault_policy", "transit"):
                self.parts.set(name, False, "not asked: there is no valid token for Vault")
            return
        self.parts.run("vault_policy", self.policy)
        self.parts.run("transit", self.transit)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        status, _, content = call(method, f"{self.url}/v1/{path}", {"X-Vault-Token": self.token}, body)
        if status == 503:
            raise Failure(f"{errors_of(content) or 'Vault answers 503'}")
        return status, content

    def lookup(self) -> str:
        try:
            self.token = self.token_file.read_text().strip()
        except OSError as error:
            raise Failure(f"{self.token_file} cannot be read: {error.strerror}") from None
        if not self.token:
            raise Failure(f"{self.token_file} is empty")
        status, content = self.ask("GET", "auth/token/lookup-self")
        if status == 403:
            raise Failure(f"Vault refuses the api's token, which is expired or revoked: {errors_of(content)}")
        if status != 200:
            raise Failure(f"Vault answers {status} {errors_of(content)}")
        data = parsed(content).get("data") or {}
        ttl = int(data.get("ttl") or 0)
        if not ttl and data.get("expire_time") is None:
            return "valid, without an end"
        if ttl <= MIN_TOKEN_SECONDS:
            raise Failure(f"the api's token ends in {ttl} s; the api replaces it below {MIN_TOKEN_SECONDS} s")
        return f"valid for {ttl // 3600} h"

    def policy(self) -> str:
        """Permissions that the api needs at its start. Whether a secret exists does not matter."""
        # A write for a version that cannot exist changes nothing: if it is allowed, Vault answers 400.
        impossible = {"options": {"cas": 2**31 - 1}, "data": {}}
        wanted = [
            ("read", "GET", "sys/mounts/transit", None, (200,)),
            ("read", "GET", "kv/data/providers/vapid", None, (200, 404)),
            ("write", "POST", "kv/data/providers/vapid", impossible, (400,)),
        ]
        problems = []
        for right, method, path, body, good in wanted:
            status, content = self.ask(method, path, body)
            if status == 403:
                problems.append(f"the api's token may not {right} {path}")
            elif status not in good:
                problems.append(f"Vault answers {method} {path} with {status} {errors_of(content)}")
        if problems:
            raise Failure("; ".join(problems))
        return ", ".join(f"may {right} {path}" for right, _, path, _, _ in wanted)

    def transit(self) -> str:
        text = base64.b64encode(uuid.uuid4().bytes).decode()
        status, content = self.ask("POST", f"transit/encrypt/{PROBE_KEY}", {"plaintext": text})
        if status in (400, 403, 404) and self.ask("GET", f"transit/keys/{PROBE_KEY}")[0] == 404:
            self.must("POST", f"transit/keys/{PROBE_KEY}", {"type": "aes256-gcm96"})
            status, content = self.ask("POST", f"transit/encrypt/{PROBE_KEY}", {"plaintext": text})
        if status != 200:
            raise Failure(f"Vault answers POST transit/encrypt with {status} {errors_of(content)}")
        secret = (parsed(content).get("data") or {}).get("ciphertext", "")
        again = self.must("POST", f"transit/decrypt/{PROBE_KEY}", {"ciphertext": secret})
        if again.get("plaintext") != text:
            raise Failure("what was encrypted was not decrypted to the same value")
        self.must("POST", f"transit/hmac/{PROBE_KEY}", {"input": text})
        return "encrypted, decrypted, signed"

    def must(self, method: str, path: str, body: object) -> dict:
        status, content = self.ask(method, path, body)
        if status not in (200, 204):
            raise Failure(f"Vault answers {method} {path} with {status} {errors_of(content)}")
        return parsed(content).get("data") or {}


# ---------------------------------------------------------------- cache and queues


class Queues:
    """The cache, and the workers behind each queue, checked by a Celery client without the application."""

    def __init__(self, parts: Parts, names: list[str], limits: dict[str, float]) -> None:
        """`limits`: the longest that a task of a queue may take, in seconds, where that is not TASK_LIMIT."""
        self.parts, self.names, self.limits = parts, names, limits
        self.works = threading.Event()
        self.done = threading.Event()

    def cache_works(self) -> bool:
        """Whether the cache answers; waits until that is known."""
        self.done.wait(DEADLINE)
        return self.works.is_set()

    def check(self) -> None:
        try:
            if self.parts.run("cache", self.ping):
                self.works.set()
        finally:
            self.done.set()
        if not self.works.is_set():
            for name in self.names:
                self.parts.set(f"queue:{name}", False, "not asked: the cache cannot be used")
        elif self.names:
            try:
                self.ask_queues()
            except Failure as failure:
                for name in self.names:
                    self.parts.set(f"queue:{name}", False, str(failure))
            except Exception as error:  # of the client; its text may hold the broker's address with the password
                for name in self.names:
                    self.parts.set(f"queue:{name}", False, f"the queues cannot be asked: {type(error).__name__}")

    def connect(self):
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        host, _, port = os.environ.get("DRAGONFLY_URL", "cache:6379").rpartition(":")
        password = os.environ.get("DRAGONFLY_PASSWORD") or None
        timeouts = {"socket_timeout": CACHE_TIMEOUT, "socket_connect_timeout": CACHE_TIMEOUT}
        return redis.Redis(host.strip("[]"), int(port), password=password, retry=Retry(NoBackoff(), 0), **timeouts)

    def ping(self) -> str:
        import redis

        self.client = self.connect()
        try:
            self.client.ping()
        except (redis.AuthenticationError, redis.ResponseError) as error:
            raise Failure(f"the cache refuses the api's password: {error}") from None
        except redis.TimeoutError:
            raise Failure(f"no answer from the cache within {CACHE_TIMEOUT:g} s") from None
        except redis.RedisError as error:
            raise Failure(f"no connection to the cache: {error}") from None
        return "answers to the api's password"

    def ask_queues(self) -> None:
        """Send an echo task through each queue, wait for the answers, and find the cause of missing ones."""
        import redis

        tasks = {name: str(uuid.uuid4()) for name in self.names}
        sent = list(tasks.values())
        app = self.make_app()
        try:
            with app.connection_for_write() as connection:
                self.send(app, connection, tasks)
            # Queues that answered are done; the others are examined.
            for name, state in self.wait_for_answers(tasks, TASK_TIMEOUT).items():
                self.parts.set(f"queue:{name}", *state)
                del tasks[name]
            if tasks:
                verdicts = Consumers(app, self.limits).judge(tasks)
                verdicts |= self.wait_for_answers(tasks, 0)
                for name, state in verdicts.items():
                    self.parts.set(f"queue:{name}", *state)
        except (redis.RedisError, OSError) as error:
            raise Failure(f"the cache stopped answering: {type(error).__name__} {error}") from None
        finally:
            with contextlib.suppress(redis.RedisError):
                self.clean_up(tasks, sent)

    def make_app(self):
        from celery import Celery

        address = os.environ.get("DRAGONFLY_URL", "cache:6379")
        password = quote(os.environ.get("DRAGONFLY_PASSWORD", ""), safe="")
        broker = os.environ.get("CELERY_BROKER_URL") or f"redis://default:{password}@{address}/0"
        app = Celery("openmates-ready", broker=broker, set_as_current=False)
        timeouts = {"socket_timeout": CACHE_TIMEOUT, "socket_connect_timeout": CACHE_TIMEOUT}
        app.conf.update(
            broker_transport_options={**timeouts, "max_retries": 0},
            broker_connection_retry=False,
            accept_content=["json"],
            task_serializer="json",
        )
        return app

    def send(self, app, connection, tasks: dict[str, str]) -> None:
        """Every worker has Celery's own task `celery.accumulate`, which returns its arguments.

        Sent to the queue directly: an exchange would declare the queue and so create one that should not exist.
        """
        producer = connection.Producer()
        for queue, task in tasks.items():
            message = app.amqp.as_task_v2(task, "celery.accumulate", args=[task], expires=TASK_EXPIRES)
            producer.publish(
                message.body,
                exchange="",
                routing_key=queue,
                serializer="json",
                headers=message.headers,
                retry=False,
                **message.properties,
            )

    def wait_for_answers(self, tasks: dict[str, str], seconds: float) -> dict[str, tuple[bool, str]]:
        """The queues that answered, each with whether the answer is right."""
        answers: dict[str, tuple[bool, str]] = {}
        began, pause = time.monotonic(), 0.01
        while True:
            waiting = [name for name in tasks if name not in answers]
            values = self.client.mget([result_key(tasks[name]) for name in waiting]) if waiting else []
            for name, value in zip(waiting, values, strict=True):
                result = parsed(value) if value else {}
                if result.get("status") == "SUCCESS" and result.get("result") == [tasks[name]]:
                    answers[name] = (True, f"answered in {time.monotonic() - began:.1f} s")
                elif result.get("status") in ("SUCCESS", "FAILURE", "REVOKED"):
                    text = str(result.get("result"))[:200]
                    answers[name] = (False, f"the worker ended a test task with {result['status']}: {text}")
            if len(answers) == len(tasks) or time.monotonic() - began >= seconds:
                return answers
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def clean_up(self, unanswered: dict[str, str], sent: list[str]) -> None:
        """Remove messages and results. Without a worker a message would remain per call."""
        for queue, task in unanswered.items():
            for message in self.client.lrange(queue, 0, 99):  # new messages are at the front
                if task.encode() in message:
                    self.client.lrem(queue, 1, message)
        self.client.delete(*map(result_key, sent))
        self.client.close()


def result_key(task: str) -> str:
    return f"celery-task-meta-{task}"


class Consumers:
    """Finds why a queue did not answer: its workers are busy, do not work, or do not exist."""

    def __init__(self, app, limits: dict[str, float]) -> None:
        self.app, self.limits = app, limits

    def judge(self, tasks: dict[str, str]) -> dict[str, tuple[bool, str]]:
        """Whether each queue is alive all the same, and why; tasks maps a queue to the unanswered task's id."""
        queues = self.app.control.inspect(timeout=CONTROL_TIMEOUT).active_queues() or {}
        consumers = {
            name: sorted(w for w, known in queues.items() if name in [queue.get("name") for queue in known or []])
            for name in tasks
        }
        workers = sorted({worker for names in consumers.values() for worker in names})
        verdicts = self.judge_workers(workers, list(tasks.values())) if workers else {}
        holders = {name: [w for w in consumers[name] if tasks[name] in verdicts[w][2]] for name in tasks}
        result = {}
        for name in tasks:
            # If a worker has taken the test task, only that worker counts; otherwise all workers of the queue.
            judged = holders[name] or consumers[name]
            bad = [verdicts[worker][1] for worker in judged if not verdicts[worker][0]]
            if not judged:
                result[name] = (False, "no worker answers that consumes it")
            elif bad:
                result[name] = (False, "; ".join(bad))
            else:
                result[name] = (True, "; ".join(verdicts[worker][1] for worker in judged))
        return result

    def judge_workers(self, workers: list[str], tasks: list[str]) -> dict[str, tuple[bool, str, set[str]]]:
        """For each worker: whether it works, why, and which of the tasks it has taken."""
        inspect = self.app.control.inspect(destination=workers, timeout=CONTROL_TIMEOUT)
        before, active = inspect.stats() or {}, inspect.active() or {}
        taken = inspect.query_task(*tasks) or {}
        verdicts = {w: self.busy(w, before.get(w), active.get(w) or []) for w in workers}
        if not all(ok for ok, _ in verdicts.values()):
            time.sleep(1)
            after = inspect.stats() or {}
            for worker, (ok, _) in verdicts.items():
                done = accepted(after.get(worker)) - accepted(before.get(worker))
                if not ok and worker in before and done > 0:
                    verdicts[worker] = (True, f"{worker} is working: it began {done} tasks within a second")
        return {worker: (*verdicts[worker], set(taken.get(worker) or {})) for worker in workers}

    def busy(self, worker: str, stats: dict | None, active: list[dict]) -> tuple[bool, str]:
        """Whether all processes of a worker are occupied by tasks that may take as long as they have taken."""
        if stats is None:
            return False, f"{worker} consumes it but does not report its tasks"
        pool = stats.get("pool") or {}
        slots = int((stats.get("autoscaler") or {}).get("current") or pool.get("max-concurrency") or 1)
        processes = pool.get("processes") or []
        running = [task for task in active if not processes or task.get("worker_pid") in processes]
        if len(running) < slots:
            return False, f"{worker} has {slots - len(running)} of {slots} processes free and does no task"
        oldest = 0.0
        for task in running:
            seconds = time.time() - (task.get("time_start") or 0)
            oldest = max(oldest, seconds)
            limit = self.limits.get((task.get("delivery_info") or {}).get("routing_key", ""), TASK_LIMIT)
            if seconds >= limit:
                what = f"{worker} has run {task.get('name')} for {seconds:.0f} s"
                return False, f"{what}; no task of its queue may take longer than {limit:g} s"
        return True, f"busy: {worker} runs {len(running)} tasks, the oldest for {oldest:.0f} s"


def accepted(stats: dict | None) -> int:
    """How many tasks a worker's processes have begun since it started."""
    return sum(((stats or {}).get("total") or {}).values())


# ---------------------------------------------------------------- api


def health(path: str) -> str:
    """One request to the api itself: all other parts can be ok while it hangs."""
    status, _, content = call("GET", f"http://127.0.0.1:8000{path}", {"X-Forwarded-For": OWN_ADDRESS})
    if status == 429:  # it answers; the rate limit is not a failure
        return "answers, and limits the rate of this probe"
    if status != 200:
        raise Failure(f"the api answers {path} with {status}")
    text = parsed(content).get("status", "")
    return f"answers {path}" + (f": {text}" if isinstance(text, str) and text else "")


def names_of(queues: list[str]) -> list[str]:
    """Every part in the order of the report."""
    vault = ["vault_token", "vault_policy", "transit"]
    return ["directus_login", "collections", "fields", *vault, "cache", *(f"queue:{q}" for q in queues), "health"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", default="", help="the queues that need a worker, separated by commas")
    parser.add_argument("--health-path", default="/v1/health")
    parser.add_argument("--skip-login", default="", help="do not log in to Directus, and report this reason")
    parser.add_argument(
        "--task-limits",
        type=json.loads,
        default={},
        help="a queue's longest task in seconds: a JSON object; 0: no limit",
    )
    parser.add_argument("--expected", type=Path, default=Path("/cms-schema/expected.json"))
    parser.add_argument("--token-file", type=Path, default=Path("/vault-data/api.token"))
    options = parser.parse_args()
    queues = [name for name in dict.fromkeys(options.queues.split(",")) if name]
    parts = Parts()
    limits = {name: float(seconds) or math.inf for name, seconds in options.task_limits.items()}
    cache = Queues(parts, queues, limits)
    directus = Directus(parts, options.expected, options.skip_login)
    work = [
        cache.check,
        lambda: directus.check(cache.cache_works),
        Vault(parts, options.token_file).check,
        lambda: parts.run("health", lambda: health(options.health_path)),
    ]
    threads = [threading.Thread(target=function, daemon=True) for function in work]
    ends = time.monotonic() + DEADLINE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(ends - time.monotonic(), 0))
    listed = parts.listed(names_of(queues), f"no result within {DEADLINE:g} s")
    print(json.dumps({"parts": listed, "login": directus.login_result}), flush=True)
    os._exit(0)  # without waiting for threads


if __name__ == "__main__":
    main()
