#!/usr/bin/python3
"""Whether OpenMates can work, part by part. Usage: openmates-ready [--json] [--wait SECONDS] [--retry-login | --forget]
                                                       [--container ID] [--without-workers]

Runs ready.py inside the api's container, with that container's own credentials, and adds what only the host sees: what
the api's log says of its start. Prints one JSON object, to a terminal a table. Exit status: 0 ready, 1 not ready, 2 the
api's container could not be asked.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STATE = Path("/var/lib/openmates/ready")
MAINTENANCE = Path("/var/lib/openmates-maintenance/flag.json")
GATE = Path("/run/openmates/gate")  # a file here is named like the one address that gets requests during a roll-out
DIRECTORY = "/opt/openmates"  # where no container has a label with the project's directory
PROJECT, SERVICE = "label=com.docker.compose.project=openmates", "label=com.docker.compose.service=api"
IN_CONTAINER = ["/bin/sh", "/openmates/with-secrets.sh", "python3", "/openmates/ready.py"]
PROBE_SECONDS = 30  # ready.py ends by itself after 15
SPACING, PAUSE = 10, 5  # seconds between two probes' beginnings, and from an end to the next beginning, with --wait
LOCK_SECONDS = 90
LOGIN_PAUSE = 60  # seconds after a login without an answer: Directus counts it as a rejected one
START_SECONDS = 1800  # how long after a container's start its log is read
LOG_GONE = 120  # an api writes its first line sooner than that after its start
FAILED_START = "Failed during critical service initialization"
REJECTED, NOW = "rejected", "%Y-%m-%d %H:%M:%S UTC"


class NotAsked(Exception):
    """Why the api's container cannot be asked."""


def docker(*arguments: str, seconds: float = PROBE_SECONDS) -> str:
    """Standard output of a Docker command. Raises NotAsked."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise NotAsked(f"`docker {arguments[0]}` did not end within {seconds:g} s") from None
    except OSError as error:
        raise NotAsked(f"docker cannot be run: {error.strerror}") from None
    if done.returncode:
        text = " ".join((done.stderr or done.stdout).split())[-300:]
        raise NotAsked(f"`docker {arguments[0]}` failed: {text or done.returncode}")
    return done.stdout


def inspected(*filters: str) -> list[dict]:
    """Docker's descriptions of the containers of these labels, the newest first, without those of `compose run`."""
    arguments = [part for label in filters for part in ("--filter", label)]
    ids = docker("ps", "--all", "--quiet", "--no-trunc", *arguments).split()
    found = json.loads(docker("inspect", *ids)) if ids else []
    return sorted(
        (item for item in found if item["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"),
        key=lambda item: item["Created"],
        reverse=True,
    )


def published(container: dict) -> set[str]:
    """The addresses of the host that lead to a container."""
    ports = container.get("NetworkSettings", {}).get("Ports") or {}
    return {f"{entry['HostIp']}:{entry['HostPort']}" for entries in ports.values() for entry in entries or []}


def running_api(containers: list[dict], wanted: str = "") -> dict:
    """The api container of that id, or the one that gets the requests, or the newest that runs. Raises NotAsked."""
    if not containers:
        raise NotAsked("the api has no container")
    running = [container for container in containers if container["State"]["Status"] == "running"]
    if wanted:
        running = [container for container in running if container["Id"].startswith(wanted)]
        if not running:
            raise NotAsked(f"no api container {wanted} runs")
    gate = {file.name for file in GATE.glob("*:*")}
    for container in sorted(running, key=lambda item: not published(item) & gate):
        return container
    state = containers[0]["State"]
    code = f", exit code {state.get('ExitCode')}" if state["Status"] == "exited" else ""
    raise NotAsked(f"the api's container is {state['Status']}{code}")


def settings(containers: list[dict]) -> dict:
    """What site.yml wrote for this program: the health path, the queues of each service, the time limits of tasks."""
    labels = containers[0]["Config"]["Labels"] if containers else {}
    path = Path(labels.get("com.docker.compose.project.working_dir") or DIRECTORY) / "config/ready/ready.json"
    try:
        found = json.loads(path.read_text())
        limits = dict(found.get("task_limits", {}))
        return {"health_path": str(found["health_path"]), "queues": dict(found["queues"]), "task_limits": limits}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAsked(f"{path} cannot be used ({type(error).__name__}): run site.yml --tags stack") from None


def moment(text: str) -> float:
    """Seconds since 1970 of one of Docker's times, 2026-11-26T09:28:09.123456789Z."""
    whole = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    fraction = text[19:].rstrip("Z")
    return whole + (float("0" + fraction) if fraction.startswith(".") else 0)


# ---------------------------------------------------------------- what is remembered between runs


class Memory:
    """A small file of the host, readable by root alone."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.json"
        try:
            found = json.loads(self.file.read_text())
            self.data: dict = found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            self.data = {}
        self.data.setdefault("salt", secrets.token_hex(16))

    def save(self) -> None:
        new = self.file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self.data))
        new.replace(self.file)

    def credential(self, container: dict) -> str:
        """A digest of the login that the container has: the secret itself is not stored."""
        mounts = {mount["Destination"]: mount.get("Source", "") for mount in container.get("Mounts") or []}
        try:
            password = (Path(mounts["/run/secrets"]) / "DATABASE_ADMIN_PASSWORD").read_bytes()
        except (KeyError, OSError):
            password = b""
        names = (value for value in container["Config"].get("Env") or [] if value.startswith("DATABASE_ADMIN_"))
        text = "\n".join([self.data["salt"], *sorted(names)]).encode() + b"\n" + password
        return hashlib.sha256(text).hexdigest()

    def reason_for_no_login(self, container: dict) -> str:
        """Why the login is not to be tried now, or an empty string."""
        login = self.data.get("login") or {}
        if login.get("credential") != self.credential(container):
            return ""
        at = time.strftime(NOW, time.gmtime(login["at"]))
        if login["result"] == REJECTED:
            return (
                f"rejected at {at} ({login['detail']}); not tried again until the credential changes, "
                "or once with openmates-ready --retry-login"
            )
        if 0 <= time.time() - login["at"] < LOGIN_PAUSE:
            return f"failed at {at} ({login['detail']}); not tried again within {LOGIN_PAUSE} s"
        return ""

    def note_login(self, container: dict, result: str, detail: str) -> None:
        if result in (REJECTED, "unanswered", "paused"):
            credential = self.credential(container)
            self.data["login"] = {"result": result, "at": time.time(), "detail": detail, "credential": credential}
        elif result == "accepted":
            self.data.pop("login", None)


# ---------------------------------------------------------------- the api's log


def log_lines(container: str, since: float, until: float) -> Iterator[str]:
    """The lines of a container's log between two moments, each with its time in front."""
    command = ["docker", "logs", "--timestamps", f"--since={since:.6f}", f"--until={until:.6f}", container]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as run:
        try:
            yield from run.stdout
        finally:
            run.kill()


def initialisation(container: dict, memory: Memory, containers: list[dict]) -> dict:
    """Whether the running api's log names a failed start. What was found is kept: the log is rotated away in time.

    Only the log of the first minutes is read, and each part of it once.
    """
    known = memory.data.setdefault("starts", {})
    starts = {f"{item['Id']} {item['State']['StartedAt']}" for item in containers}
    for gone in set(known) - starts:
        del known[gone]
    began, now = moment(container["State"]["StartedAt"]), time.time()
    start = known.setdefault(f"{container['Id']} {container['State']['StartedAt']}", {"read": began, "line": ""})
    ends = began + START_SECONDS
    if not start["line"] and start["read"] < ends:
        for line in log_lines(container["Id"], start["read"], min(ends, now)):
            stamp, _, text = line.partition(" ")
            with contextlib.suppress(ValueError):
                start.setdefault("first", moment(stamp))
            if FAILED_START in text:
                start["line"] = text[text.index(FAILED_START) :].strip()[:300]
                break
        start["read"] = min(ends, now)
    if start["line"]:
        return part("initialisation", False, f"the api started incompletely and goes on: {start['line']}")
    if "first" in start and start["first"] - began < LOG_GONE:
        return part("initialisation", True, "no critical failure in the log of its start")
    if now - began < LOG_GONE:
        return part("initialisation", True, "no critical failure in the log so far")
    return part("initialisation", True, "not known: the log of its start is gone, and was not read while it was there")


# ---------------------------------------------------------------- one probe


def part(name: str, ok: bool, detail: str) -> dict:
    return {"name": name, "ok": ok, "detail": detail}


def all_parts(queues: list[str], detail: str) -> list[dict]:
    names = ["directus_login", "collections", "fields", "vault_token", "vault_policy", "transit", "cache"]
    names += [*(f"queue:{queue}" for queue in queues), "health", "initialisation"]
    return [part(name, False, f"not asked: {detail}") for name in names]


def ask(container: dict, wanted: dict, queues: list[str], skip_login: str) -> dict:
    """The result of ready.py, run in the container. Raises NotAsked."""
    options = ["--queues", ",".join(queues), "--health-path", wanted["health_path"]]
    options += ["--task-limits", json.dumps(wanted["task_limits"])]
    options += ["--skip-login", skip_login] if skip_login else []
    output = docker("exec", container["Id"], *IN_CONTAINER, *options)
    try:
        answer = json.loads(output)
        return {"parts": list(answer["parts"]), "login": str(answer["login"])}
    except (ValueError, KeyError, TypeError):
        raise NotAsked(f"ready.py printed something else than its result: {output[:200]!r}") from None


def probe(memory: Memory, wanted_container: str = "", workers: bool = True) -> dict:
    """Check every part once: {ready, asked, parts}. `workers`: whether their queues count."""
    queues: list[str] = []
    try:
        containers = inspected(PROJECT, SERVICE)
        wanted = settings(containers or inspected(PROJECT))
        consumers: dict[str, list[str]] = {}
        for service, names in wanted["queues"].items() if workers else ():
            for name in names:
                consumers.setdefault(name, []).append(service)
        queues = list(consumers)
        container = running_api(containers, wanted_container)
        answer = ask(container, wanted, queues, memory.reason_for_no_login(container))
    except NotAsked as reason:
        return {"ready": False, "asked": False, "parts": all_parts(queues, str(reason))}
    parts = answer["parts"]
    for entry in parts:
        if entry["name"] == "directus_login":
            memory.note_login(container, answer["login"], entry["detail"])
        service = consumers.get(entry["name"].partition(":")[2], [])
        if service and not entry["ok"]:
            entry["detail"] += f"; its worker is {', '.join(service)}"
    parts.append(initialisation(container, memory, containers))
    return {"ready": all(entry["ok"] for entry in parts), "asked": True, "parts": parts}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other run is under way. Raises NotAsked."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    ends = time.monotonic() + LOCK_SECONDS
    with (folder / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise NotAsked(f"another openmates-ready has been running for {LOCK_SECONDS} s") from None
                time.sleep(0.1)
        yield


def forget() -> int:
    """Forget a rejected login, so that the next run tries it once more. The exit status."""
    try:
        with alone(STATE):
            memory = Memory(STATE)
            memory.data.pop("login", None)
            memory.save()
            return 0
    except NotAsked as reason:
        print(f"openmates-ready: {reason}", file=sys.stderr)
        return 2


def look(forget_login: bool, container: str = "", workers: bool = True) -> dict:
    """The result of one probe, or of another run's that began while this one waited for its turn."""
    came = time.time()
    try:
        with alone(STATE):
            memory = Memory(STATE)
            if forget_login:
                memory.data.pop("login", None)
            last = memory.data.get("last") or {}
            shared = workers and not container
            if not forget_login and shared and came <= last.get("began", 0) <= time.time():
                return last["result"]
            began = time.time()
            result = probe(memory, container, workers)
            if shared:
                memory.data["last"] = {"began": began, "result": result}
            memory.save()
            return result
    except NotAsked as reason:
        return {"ready": False, "asked": False, "parts": all_parts([], str(reason))}


def maintenance() -> dict | None:
    """What openmates.server.maintenance wrote when clients were switched to 503; None if they are served."""
    try:
        found = json.loads(MAINTENANCE.read_text(errors="replace"))
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def table(result: dict) -> str:
    flag = result["maintenance"]
    closed = [] if flag is None else ["IN MAINTENANCE: clients get 503" + "".join(f", {flag[key]}" for key in flag)]
    width = max(len(entry["name"]) for entry in result["parts"])
    rows = [f"  {e['name']:<{width}}  {'ok    ' if e['ok'] else 'FAILED'}  {e['detail']}" for e in result["parts"]]
    return "\n".join([*closed, "ready" if result["ready"] else "NOT READY", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(" Usage")[0])
    parser.add_argument("--json", action="store_true", help="print a JSON object, to a terminal too")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="ask again until it is ready")
    parser.add_argument("--retry-login", action="store_true", help="try a login that was rejected once more")
    parser.add_argument(
        "--container", default="", metavar="ID", help="ask this container; default: the one that serves"
    )
    parser.add_argument("--without-workers", action="store_true", help="ready, even if no worker takes tasks")
    parser.add_argument("--forget", action="store_true", help="only forget that a login was rejected")
    options = parser.parse_args()
    if os.geteuid():
        print("openmates-ready: only root may ask the api's container; use sudo", file=sys.stderr)
        return 2
    if options.forget:
        return forget()
    ends = time.monotonic() + options.wait
    forget_login = options.retry_login
    while True:
        began = time.monotonic()
        result = look(forget_login, options.container, not options.without_workers)
        forget_login = False
        again = max(began + SPACING, time.monotonic() + PAUSE)
        if result["ready"] or again > ends:
            break
        time.sleep(again - time.monotonic())
    shown = {"ready": result["ready"], "maintenance": maintenance(), "parts": result["parts"]}
    print(table(shown) if sys.stdout.isatty() and not options.json else json.dumps(shown))
    return 0 if result["ready"] else 1 if result["asked"] else 2


if __name__ == "__main__":
    sys.exit(main())
