#!/usr/bin/python3
"""Repair services on this server after an outage: see docs/outages.md.

A loop that costs a few milliseconds per round: it lists the containers and asks the services for an answer. Only when
something was unhealthy, silent or has just started does it run the readiness probe, until that reports ready;
without any sign of trouble it runs the probe every ten minutes. Parts that do not recover are repaired from the lowest
up, each repair with a delay that doubles. Services with data (database, cache, Vault) and containers that an operator
stopped are never restarted; nothing is restarted while `docker compose` changes containers, nor while HOLD exists.
Standard library only, so that it works while the server's Python packages are being upgraded.
"""

from __future__ import annotations

import argparse
import calendar
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable

try:
    from ansible_collections.openmates.server.plugins.module_utils import connections
    from ansible_collections.openmates.server.plugins.module_utils.answers import silent
    from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
    from ansible_collections.openmates.server.plugins.module_utils.file_lock import locked
    from ansible_collections.openmates.server.plugins.module_utils.service_metrics import ServiceMetrics
except ImportError:  # on the host all files are in one directory, which an isolated Python does not search by itself
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import connections
    from answers import silent
    from docker_api import Docker, DockerProblem
    from file_lock import locked
    from service_metrics import ServiceMetrics

HOLD = pathlib.Path("/run/openmates-heal/hold")
HOLD_SECONDS = 3600  # a forgotten hold expires
ROLLOUT = pathlib.Path("/run/openmates/rollout.lock")  # locked by rollout.py as long as it runs
PROC = pathlib.Path("/proc")
# What `docker compose` does when it changes containers. `logs --follow` or `exec` may run for days and change none.
CHANGES = {b"up", b"down", b"start", b"stop", b"restart", b"create", b"rm", b"run", b"kill", b"pause", b"unpause"}

# Never restarted by this program: they hold data, and work again when they are reachable again.
DATA = ("cms-database", "cache", "vault")
CACHE_PORT = 6379

# Through which alerts go: nothing on this server reports that they hang. They need none of the others.
ALERTING = ("prometheus", "alertmanager")
MONITORING = (*ALERTING, "loki", "promtail", "cadvisor", "grafana")

ROUTINE = 600  # seconds between two probes without a sign of trouble
PROBE_EVERY = (10, 20, 40, 60)  # seconds between probes with the same result; then the last value
STEADY = 45  # seconds for which a part must fail before it is repaired
LOGIN_STEADY = 90  # the probe tries a login that was not answered again after a minute
UNHEALTHY = 180  # the same for a container's own health check, which is slower already
SILENT = 50  # the same for what alerts go through and that does not answer
ASK_EVERY = 20  # seconds between two questions to the services, while all of them answer
BOOT = 240  # seconds that a service may take to start
FIRST_DELAY, LAST_DELAY, MEMORY = 120, 1800, 6 * 3600  # seconds: between repairs of one thing; how long they count

# How the probe reports a part that it had no time for. On an overloaded host a restart would only add to the load.
UNFINISHED = "no result within"

SUSPENDED = (
    "update directus_users set status = 'active' "
    "where status = 'suspended' and lower(email) = lower(:'account') returning email;\n"
)


@dataclasses.dataclass(frozen=True)
class Container:
    """A running container, as Docker lists it."""

    identity: str
    service: str
    status: str
    address: str
    command: str = ""

    @property
    def unhealthy(self) -> bool:
        return "(unhealthy)" in self.status

    @property
    def young(self) -> bool:
        """Whether it may have started since the last round."""
        return not self.status.startswith("Up") or bool(
            re.match(r"Up (Less than a second|\d+ seconds?|About a minute)\b", self.status)
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """The parts of the readiness probe that failed, with their details."""

    failing: dict[str, str]
    asked: bool = True

    @property
    def ready(self) -> bool:
        return self.asked and not self.failing


class Trouble(Exception):
    """Docker or a program failed."""


class Host:
    """The server's state, and the repairs that the watcher can do."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def docker(self, method: str, path: str, seconds: float = 10) -> object:
        try:
            return Docker(self.options.project).call(method, path, seconds=seconds)
        except DockerProblem as problem:
            raise Trouble(str(problem).removesuffix(".")) from None

    def containers(self) -> list[Container]:
        filters = {
            "label": [f"com.docker.compose.project={self.options.project}"],
            "status": ["running", "restarting"],
        }
        found = self.docker("GET", "/containers/json?filters=" + urllib.parse.quote(json.dumps(filters)))
        return [
            Container(
                entry["Id"],
                entry["Labels"]["com.docker.compose.service"],
                entry["Status"],
                next(
                    (net["IPAddress"] for net in entry["NetworkSettings"]["Networks"].values() if net["IPAddress"]), ""
                ),
                entry["Command"],
            )
            for entry in found
            if entry["Labels"].get("com.docker.compose.oneoff", "False") == "False"
        ]

    def events(self, since: float, until: float) -> list[tuple[str, str]]:
        """The starts and the out-of-memory kills between two moments: what happened, and the service."""
        try:
            found = Docker(self.options.project).events(["start", "oom"], since, until)
        except DockerProblem as problem:
            raise Trouble(str(problem).removesuffix(".")) from None
        names = "com.docker.compose.service"
        return [(event["Action"], event["Actor"]["Attributes"].get(names, "")) for event in found]

    def silent(self, containers: list[Container]) -> set[str]:
        """The services that do not answer. A container that restarts has no address."""
        running = [container for container in containers if container.status.startswith("Up")]
        return {container.service for container in containers if container not in running} | silent(running)

    def refused(self, containers: list[Container]) -> dict[str, bool | None]:
        """Of the scheduler and each worker, whether the cache refuses its login; None: not known now."""
        cache = next((container.address for container in containers if container.service == "cache"), "")
        found: dict[str, list[bool | None]] = {}
        for container in containers:
            if "celery" in container.command.split():
                found.setdefault(container.service, []).append(self._refused(container, cache))
        return {service: connections.worst(known) for service, known in found.items()}

    def _refused(self, container: Container, cache: str) -> bool | None:
        if not cache or not container.status.startswith("Up"):
            return None
        try:
            table = (PROC / str(self.inspect(container)["State"]["Pid"]) / "net/tcp").read_text()
        except (Trouble, OSError):  # it has just ended
            return None
        return connections.refused(table, cache, CACHE_PORT)

    def inspect(self, container: Container) -> dict:
        return self.docker("GET", f"/containers/{container.identity}/json")

    def probe(self) -> Report:
        try:
            done = subprocess.run(
                [self.options.ready, "--json"],
                capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            parts = json.loads(done.stdout)["parts"] if done.returncode in (0, 1) else None
            if parts is None:
                return Report({"probe": (done.stderr or done.stdout).strip()[-300:]}, asked=False)
            failing = {part["name"]: str(part.get("detail", "")) for part in parts if not part["ok"]}
            return Report(failing or ({} if done.returncode == 0 else {"probe": "not ready, without a reason"}))
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
            return Report({"probe": f"{type(error).__name__}: {error}"}, asked=False)

    def busy(self) -> str:
        """Why nothing may be done now, or an empty string."""
        try:
            if time.time() - HOLD.stat().st_mtime < HOLD_SECONDS:
                return f"{HOLD} exists"
        except OSError:
            pass
        if locked(ROLLOUT):
            return "a roll-out is under way"
        for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except OSError:
                continue
            compose = words[0].endswith(b"docker-compose") or (words[0].endswith(b"docker") and b"compose" in words[1:])
            if compose and CHANGES & set(words[1:]):
                return "docker compose is at work"
        return ""

    def restart(self, container: Container) -> None:
        self.docker("POST", f"/containers/{container.identity}/restart?t=30", seconds=90)

    def reactivate(self, database: Container) -> bool:
        """Activate the account with which the api logs in to Directus, if Directus suspended it."""
        command = ["docker", "exec", "--interactive", database.identity, "psql", "--username=directus"]
        command += ["--dbname=directus", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        command += ["--set=ON_ERROR_STOP=1", f"--set=account={self.options.account}"]
        try:
            done = subprocess.run(command, input=SUSPENDED, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Trouble(f"the database cannot be asked: {error}") from None
        if done.returncode:
            raise Trouble(f"the database cannot be asked: {done.stderr.strip()[-300:]}")
        return bool(done.stdout.strip())

    def forget_rejection(self) -> None:
        """Make the probe retry a login that it stopped after a rejection. It waits up to 90 s for its lock."""
        self.command(self.options.ready, "--forget", seconds=100)

    def renew_token(self) -> None:
        self.command("systemctl", "start", "--no-block", "openmates-vault-token.service", seconds=30)

    def command(self, *words: str, seconds: float) -> None:
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Trouble(f"`{' '.join(words)}` failed: {error}") from None
        if done.returncode:
            raise Trouble(f"`{' '.join(words)}` failed: {done.stderr.strip()[-300:] or done.returncode}")


def queues(details: dict) -> set[str] | None:
    """The queues that a container's Celery worker consumes: a set, empty for all of them; None: it is no worker."""
    config = details["Config"]
    words = [*(config.get("Cmd") or [])]
    if "worker" not in words:
        return None
    for word in config.get("Env") or []:
        name, _, value = word.partition("=")
        if name == "CELERY_QUEUES" and value:
            return {queue.strip() for queue in value.split(",")}
    for index, word in enumerate(words[:-1]):
        if word in ("-Q", "--queues"):
            return set(words[index + 1].split(","))
    for word in words:
        if word.startswith("--queues="):
            return set(word.partition("=")[2].split(","))
    return set()


def started(details: dict) -> float:
    """Seconds since the epoch of Docker's 2026-11-22T15:00:00.123456789Z."""
    return calendar.timegm(time.strptime(details["State"]["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))


class Watcher:
    """Decides, round by round, whether to probe and what to repair."""

    def __init__(
        self,
        host: Host,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        metrics: ServiceMetrics | None = None,
    ) -> None:
        self.host, self.say, self.clock, self.metrics = host, say, clock, metrics
        self.suspicion = "this program was started"
        self.signs: set[tuple[str, str]] = set()  # (service, what is wrong with it) in the last round
        self.next_probe = 0.0
        self.same = 0  # how often in a row the probe has reported the same
        self.failing_since: dict[str, float] = {}  # parts of the probe
        self.unhealthy_since: dict[str, float] = {}  # services
        self.silent_since: dict[str, float] = {}  # services
        self.next_question = 0.0
        self.repairs: dict[str, list[float]] = {}  # when each thing was repaired
        self.forget_due = False  # whether the probe still has to forget that it was rejected
        self.blocked = ""
        self.unpublished = ""

    def round(self) -> None:
        now = self.clock()
        containers = self.host.containers()
        by_service = {container.service: container for container in containers}
        unreachable = self._ask(containers, now)
        self._publish(containers, unreachable, now)
        if self._restart_alerting(by_service, now) or "api" not in by_service:
            return  # not provisioned yet, or stopped on purpose
        unreachable |= {*DATA, "cms"} - by_service.keys()  # stopped, paused, or gone
        self._note(containers, unreachable - {*MONITORING}, now)
        if self._restart_unhealthy(containers, unreachable, now):
            return
        if now < self.next_probe or "api" in unreachable:
            return
        self._judge(self.host.probe(), by_service, unreachable | set(self.unhealthy_since), now)

    def _ask(self, containers: list[Container], now: float, at_once: bool = False) -> set[str]:
        """The services that do not answer; asked in each round once one of them does not."""
        if at_once or now >= self.next_question or self.silent_since:
            found = self.host.silent(containers)
            self.silent_since = {name: self.silent_since.get(name, now) for name in found}
            self.next_question = now + ASK_EVERY
        return {*self.silent_since}

    def _restart_alerting(self, by_service: dict[str, Container], now: float) -> bool:
        """Restart what alerts go through when it hangs, without waiting for its health check, which is slow."""
        hanging = [name for name in ALERTING if now - self.silent_since.get(name, now) >= SILENT]
        reason = "it does not answer, which no alert can report"
        return any(self._restart(by_service[name], reason, now) for name in hanging if name in by_service)

    def _publish(self, containers: list[Container], unreachable: set[str], now: float) -> None:
        """Write the metrics. A disk that is full does not stop the repairs."""
        problem = ""
        try:
            if self.metrics:
                refused = self.host.refused(containers)
                self.metrics.write(containers, unreachable, self.failing_since, refused, self.host.events, now)
        except (OSError, Trouble) as error:
            problem = f"<4>The metrics of the services cannot be written: {error}."
            if problem != self.unpublished:  # once, not in each round
                self.say(problem)
        self.unpublished = problem

    def _note(self, containers: list[Container], unreachable: set[str], now: float) -> None:
        """Record signs of trouble. A new one runs the probe at once."""
        unhealthy = {container.service for container in containers if container.unhealthy}
        self.unhealthy_since = {name: self.unhealthy_since.get(name, now) for name in unhealthy}
        signs = {(name, "is unhealthy") for name in unhealthy}
        signs |= {(name, "does not answer") for name in unreachable}
        signs |= {(container.service, "has just started") for container in containers if container.young}
        if new := signs - self.signs:
            self.suspicion = ", ".join(f"{name} {what}" for name, what in sorted(new))
            self.next_probe, self.same = now, 0
        self.signs = signs

    def _restart_unhealthy(self, containers: list[Container], unreachable: set[str], now: float) -> bool:
        """Restart a service without data that stays unhealthy although all its dependencies are healthy: it hangs."""
        for container in sorted(containers, key=lambda item: item.service != "cms"):
            service = container.service
            needs = () if service in MONITORING else DATA if service == "cms" else (*DATA, "cms")
            if service in DATA or now - self.unhealthy_since.get(service, now) < UNHEALTHY:
                continue
            if {*needs} & (set(self.unhealthy_since) | unreachable):
                continue
            if self._restart(container, "its health check fails and all that it needs is healthy", now):
                return True
        return False

    def _judge(self, report: Report, by_service: dict[str, Container], troubled: set[str], now: float) -> None:
        if report.ready:
            if self.failing_since:
                self.say("<5>The backend is ready again.")
            self.suspicion, self.failing_since, self.same, self.blocked = "", {}, 0, ""
            self.next_probe = now + (PROBE_EVERY[-1] if self.signs else ROUTINE)
            return
        self.same = self.same + 1 if set(report.failing) == set(self.failing_since) else 0
        self.failing_since = {name: self.failing_since.get(name, now) for name in report.failing}
        self.suspicion = self.suspicion or "found by a routine probe"
        self.next_probe = now + PROBE_EVERY[min(self.same, len(PROBE_EVERY) - 1)]
        if self.same == 0:
            parts = "; ".join(f"{name}: {detail}" for name, detail in report.failing.items())
            self.say(f"<5>Not ready ({self.suspicion}): {parts}")
        troubled = troubled | self._ask([*by_service.values()], now, at_once=True)
        try:
            self._repair(report, by_service, troubled, now)
        except Trouble as trouble:
            if str(trouble) != self.blocked:  # once, not at each probe
                self.say(f"<4>Cannot repair: {trouble}.")
            self.blocked = str(trouble)

    def _steady(self, name: str, report: Report, now: float) -> bool:
        """Whether a part has failed for long enough to act on it."""
        long = LOGIN_STEADY if name == "directus_login" else STEADY
        return now - self.failing_since[name] >= long and not report.failing[name].startswith(UNFINISHED)

    def _repair(self, report: Report, by_service: dict[str, Container], troubled: set[str], now: float) -> None:
        """One step, for the lowest part that fails: failures above it may only be its consequences."""
        failing = report.failing
        if not report.asked or troubled & set(DATA) or "cache" in failing:
            return  # recovers without help, or needs an operator
        if "directus_login" in failing:
            if self._due("the account", now) and self.host.reactivate(by_service["cms-database"]):
                self._count("the account", now)
                self.say("<4>Directus had suspended the account of the api after failed logins; it is active again.")
                self.forget_due = True
            if self.forget_due:  # until it works: the account is active by now, so nothing else would lead here again
                self.host.forget_rejection()
                self.forget_due = False
            elif (
                "cms" in by_service
                and self._steady("directus_login", report, now)
                and "reject" not in failing["directus_login"].lower()
            ):
                self._restart(by_service["cms"], "no login works although its database and the cache do", now)
            return
        if "vault_token" in failing:
            if self._due("the Vault token", now):
                self._count("the Vault token", now)
                self.say("<4>The services' Vault token does not work: starting openmates-vault-token.service.")
                self.host.renew_token()
            return
        if failing.keys() & {"transit", "vault_policy", "collections", "fields"}:
            return  # no restart changes that; verify and site.yml name it
        if "initialisation" in failing:
            self._restart(by_service["api"], "it started while something that it needs was away", now)
            return
        failed_queues = [name for name in failing if name.startswith("queue:")]
        dead = {name.partition(":")[2] for name in failed_queues if self._steady(name, report, now)}
        for container in by_service.values() if dead else ():
            consumed = queues(self.host.inspect(container))
            if consumed is not None and (not consumed or consumed & dead):
                self._restart(container, f"no task is done on {', '.join(sorted(dead))}", now)

    def _due(self, thing: str, now: float) -> bool:
        """Whether the delay since the last repair of a thing is over. It doubles with each repair within MEMORY."""
        past = [moment for moment in self.repairs.get(thing, []) if now - moment < MEMORY]
        self.repairs[thing] = past
        return not past or now - past[-1] >= min(FIRST_DELAY * 2 ** (len(past) - 1), LAST_DELAY)

    def _count(self, thing: str, now: float) -> None:
        self.repairs.setdefault(thing, []).append(now)

    def _restart(self, container: Container, reason: str, now: float) -> bool:
        service = container.service
        if not self._due(service, now):
            return False
        details = self.host.inspect(container)
        health = (details["State"].get("Health") or {}).get("Status", "")
        if now - started(details) < BOOT and health != "healthy":
            return False  # it is still starting
        if why := self.host.busy():
            if why != self.blocked:
                self.say(f"<5>{service} would be restarted ({reason}), but {why}.")
            self.blocked = why
            return False
        self._count(service, now)
        number = len(self.repairs[service])
        self.say(f"<4>Restarting {service}: {reason} (restart {number} within {MEMORY // 3600} hours).")
        self.host.restart(container)
        if service not in MONITORING:
            self.suspicion, self.next_probe, self.same = f"{service} was restarted", now + PROBE_EVERY[0], 0
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", default="openmates", help="the Compose project")
    parser.add_argument("--ready", default="/usr/local/sbin/openmates-ready", help="the readiness probe")
    parser.add_argument("--account", required=True, help="e-mail address of the api's account in Directus")
    parser.add_argument("--services", type=lambda text: text.split(","), help="services that have to run, for metrics")
    parser.add_argument("--metrics", type=pathlib.Path, help="the directory of Prometheus' text files")
    parser.add_argument("--schedule", type=pathlib.Path, help="where the scheduler saves its schedule, for metrics")
    parser.add_argument("--every", type=float, default=10, help="seconds between two rounds")
    options = parser.parse_args()

    metrics = None
    if options.metrics:
        metrics = ServiceMetrics(options.metrics, options.services or [], time.time(), options.schedule)
    watcher = Watcher(Host(options), lambda text: print(text, flush=True), metrics=metrics)
    silent = ""
    while True:
        try:
            watcher.round()
            silent = ""
        except Trouble as trouble:
            if str(trouble) != silent:  # once, not in each round
                print(f"<4>{trouble}.", file=sys.stderr, flush=True)
            silent = str(trouble)
        time.sleep(options.every)


if __name__ == "__main__":
    main()
