#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace the api and the workers without a failed request or a lost task: see docs/deploy.md.

Arguments: the services whose definition has changed; the images are there already. A second container is started
beside the first. The api's gets requests once it has been ready for --steady-seconds; a worker's first container then
takes no further tasks and finishes what it runs. Only after that is the first one stopped. A new container that does
not become ready is removed, and the first one has never stopped serving.

With --drain or --resume nothing is replaced: before Docker or the server restarts, workers finish their tasks and take
no others; afterwards they take tasks again.

Prints one JSON object per service. Exit status 1: the reason and the last lines of the new container's log are
on standard error. It is safe to kill at any moment: the next run continues with what it finds.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import fcntl
import http.client
import json
import pathlib
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator

try:
    from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
except ImportError:  # on the host
    sys.path.insert(0, "/usr/local/lib/openmates")
    from docker_api import Docker, DockerProblem

RUN = pathlib.Path("/run/openmates")
DRAINED = pathlib.Path("/var/lib/openmates/drained")
READY = "/usr/local/sbin/openmates-ready"
API_PORT = "8000/tcp"
OWN_ADDRESS = "192.0.2.3"  # the api limits requests per client address
FAILED_START = "initialisation"  # the part of the probe that does not recover by itself

LOOK_EVERY = 2.0  # seconds between two looks at a new container
SILENT = 2  # looks in a row at which a new api answers nothing, after which it has to become ready anew
PROBE_PAUSE = 5.0  # seconds from the end of one readiness probe to the next
AGAIN_SECONDS = 120.0  # how long the second probe may take to succeed; see LOGIN_PAUSE in openmates-ready
SETTLE = 3.0  # seconds after which a request that Caddy had assigned to the old container has reached it
CADDY_NOTICES = 9.0  # seconds: interval and timeout of Caddy's own health checks, which decide while no gate is set
WORKER_STEADY = 10.0  # seconds for which a new worker has to stay alive
IDLE_STOP = 60  # seconds; an idle worker needs eight
LOG_LINES = 15


class Problem(Exception):
    """Why a service was not replaced."""


def progress(text: str) -> None:
    print(f"progress: {text}", file=sys.stderr, flush=True)


class Container:
    """What Docker knows of a container."""

    def __init__(self, details: dict) -> None:
        self.details = details
        self.id: str = details["Id"]
        self.labels: dict = details["Config"]["Labels"]
        self.state: dict = details["State"]

    @property
    def running(self) -> bool:
        return self.state["Status"] == "running"

    @property
    def started(self) -> float:
        """When it was started last, in seconds since 1970."""
        return calendar.timegm(time.strptime(self.state["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))

    @property
    def definition(self) -> tuple[str, str]:
        """Compose's digest of what it was made from, and the image's id."""
        return self.labels.get("com.docker.compose.config-hash", ""), self.details["Image"]

    @property
    def published(self) -> str:
        """Where the host's Caddy reaches the api, such as 127.0.0.1:8001; empty while it does not run."""
        for binding in (self.details["NetworkSettings"]["Ports"] or {}).get(API_PORT) or []:
            return f"{binding['HostIp']}:{binding['HostPort']}"
        return ""

    @property
    def address(self) -> str:
        """Its own address on the services' network."""
        networks = self.details["NetworkSettings"]["Networks"].values()
        return next((network["IPAddress"] for network in networks if network["IPAddress"]), "")

    @property
    def stop_seconds(self) -> int:
        """How long it may take to stop: stop_grace_period in the Compose file."""
        return self.details["Config"].get("StopTimeout") or 10


class Host:
    """The containers of the project."""

    def __init__(self, directory: pathlib.Path, project: str) -> None:
        self.directory, self.engine = directory, Docker(project)
        self.project = project

    def compose(self, *arguments: str) -> str:
        """Output of a Compose command. Raises Problem."""
        command = ["docker", "compose", "--ansi=never", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.directory)
        if done.returncode:
            raise Problem(f"`docker compose {arguments[0]}` failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def containers(self, service: str) -> list[Container]:
        """All containers of a service, the oldest first, without those of `docker compose run`."""
        labels = [f"project={self.project}", f"service={service}", "oneoff=False"]
        wanted = {"label": [f"com.docker.compose.{label}" for label in labels]}
        found = self.engine.call("GET", "/containers/json?all=1&filters=" + urllib.parse.quote(json.dumps(wanted)))
        return [self.inspect(entry["Id"]) for entry in sorted(found, key=lambda entry: entry["Created"])]

    def inspect(self, container: str) -> Container:
        return Container(self.engine.call("GET", f"/containers/{container}/json"))

    def wanted(self, service: str) -> tuple[str, str]:
        """The definition that the Compose files have now."""
        digest = self.compose("config", "--hash", service).split()[1]
        image = json.loads(self.compose("config", "--format", "json", service))["services"][service]["image"]
        return digest, self.engine.call("GET", f"/images/{image}/json")["Id"]

    def start_second(self, service: str, present: list[Container]) -> Container:
        """A new container beside those that are present."""
        # Not --no-deps: Compose would leave the dependencies out of the definition's digest, and next time replace it.
        flags = ["--detach", "--no-recreate", "--no-build", "--pull=never"]
        try:
            self.compose("up", *flags, f"--scale={service}={len(present) + 1}", service)
        finally:
            known = {container.id for container in present}
            new = [container for container in self.containers(service) if container.id not in known]
            if sys.exc_info()[0]:
                for container in new:
                    self.remove(container)
        if not new:
            raise Problem(f"Compose started no second {service}.")
        return new[-1]

    def stop(self, container: Container, seconds: int) -> bool:
        """Stop a container, by force after that many seconds; whether it stopped by itself."""
        self.engine.call("POST", f"/containers/{container.id}/stop?t={seconds}", seconds=seconds + 60)
        return self.inspect(container.id).state["ExitCode"] != 137

    def kill(self, container: Container) -> None:
        self.engine.call("POST", f"/containers/{container.id}/kill")

    def restart(self, container: Container) -> None:
        """Restart a container, or start one that does not run."""
        self.engine.call("POST", f"/containers/{container.id}/restart?t={IDLE_STOP}", seconds=IDLE_STOP + 60)

    def remove(self, container: Container) -> None:
        """Remove a container, by force if it runs, and its anonymous volumes; nothing is in them."""
        self.engine.call("DELETE", f"/containers/{container.id}?force=1&v=1", seconds=60)

    def log(self, container: Container) -> str:
        command = ["docker", "logs", f"--tail={LOG_LINES}", container.id]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout.rstrip()

    def running(self, container: Container) -> Container:
        """The container as it is now. Raises Problem if it has ended or was started again after its end."""
        now = self.inspect(container.id)
        if now.running and not now.details["RestartCount"]:
            return now
        code = f"exit code {now.state['ExitCode']}" if now.state["Status"] == "exited" else now.state["Status"]
        text = f"it has ended {now.details['RestartCount']} times" if now.details["RestartCount"] else code
        raise Problem(f"the new container does not stay up: {text}")


class Gate:
    """Where Caddy sends the api's requests: a file with an upstream's name makes it the only one (Caddyfile.j2)."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def chosen(self) -> list[str]:
        return sorted(file.name for file in self.directory.glob("*:*"))

    def only(self, upstream: str) -> None:
        """Send all further requests to this upstream. At each moment of it exactly one of two upstreams is chosen."""
        for directory in (self.directory.parent, self.directory):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)  # Caddy reads it, whatever the umask of the caller is
        (self.directory / upstream).touch()
        for other in self.chosen():
            if other != upstream:
                (self.directory / other).unlink()

    def clear(self) -> None:
        """Leave the choice to Caddy's own health checks, which have to know the containers by now."""
        for upstream in self.chosen():
            (self.directory / upstream).unlink()


class Drained:
    """The containers that were drained, so take no further tasks: one file each, which outlives a reboot."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def add(self, container: Container) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / container.id).touch()

    def since(self, container: Container) -> float:
        """When it was drained; 0 if it was not."""
        file = self.directory / container.id
        return file.stat().st_mtime if file.exists() else 0.0

    def clear(self, container: Container) -> None:
        (self.directory / container.id).unlink(missing_ok=True)


class Rollout:
    """Replaces one service after the other."""

    def __init__(self, host: Host, gate: Gate, options: argparse.Namespace) -> None:
        self.host, self.gate, self.options = host, gate, options

    # ---------------------------------------------------------------- what both kinds of services share

    def sort(
        self,
        service: str,
        serving: Callable[[list[Container]], Container],
        retire: Callable[[str, Container], object],
    ) -> tuple[Container, Container | None]:
        """The container that serves and, if an earlier run was interrupted, the new one that it has started.

        All others are removed: what failed attempts have left, and an old one that was to be stopped. It may still
        have requests or tasks, so `retire` lets it finish.
        """
        wanted = self.host.wanted(service)
        found = self.host.containers(service)
        running = [container for container in found if container.running]
        if not running:
            raise Problem(f"{service} does not run: start it first.")
        old = serving(running)
        fresh = [
            container
            for container in running
            if container is not old and container.definition == wanted and not container.details["RestartCount"]
        ]
        new = fresh[-1] if fresh and old.definition != wanted else None
        for container in found:
            if container in running and container not in (old, new):
                retire(service, container)
            elif container not in (old, new):
                self.host.remove(container)
        return old, new

    @contextlib.contextmanager
    def removed_on_failure(self, service: str, new: Container, back: Callable[[], None]) -> Iterator[None]:
        """Remove the new container if it cannot be used, after `back` has undone what was done for it."""
        try:
            yield
        except (Problem, DockerProblem) as problem:
            back()
            log = self.host.log(new)
            self.host.remove(new)
            lines = f"\nThe last lines of its log:\n{log}" if log else ""
            text = f"{service}: {str(problem).rstrip('.')}. It was removed; the one before still serves.{lines}"
            raise Problem(text) from None

    # ---------------------------------------------------------------- the api

    def api(self, service: str) -> dict:
        """Replace the api."""
        began = time.monotonic()
        old, new = self.sort(service, self.serving_api, self.retire_api)
        wanted = self.host.wanted(service)
        if old.definition == wanted:
            self.forget_gate()
            return {"service": service, "result": "unchanged"}
        self.gate.only(old.published)
        excused = {part for part in self.failing(old) if part.startswith("queue:")}
        progress(f"starts a second {service} beside {old.id[:12]}")
        new = new or self.host.start_second(service, [old])
        try:
            with self.removed_on_failure(service, new, lambda: self.gate.only(old.published)):
                ready_after = self.wait_until_steady(service, new, excused)
                self.gate.only(self.host.running(new).published)
                progress(f"the new {service} gets the requests")
                self.watch(new, SETTLE)
            gone = self.retire_api(service, old)
        finally:
            self.forget_gate()
        return {
            "service": service,
            "result": "replaced",
            "ready_after": round(ready_after),
            "by_force": not gone,
            "seconds": round(time.monotonic() - began),
        }

    def serving_api(self, running: list[Container]) -> Container:
        """The one that the gate names, else the oldest."""
        chosen = self.gate.chosen()
        return next((container for container in running if container.published in chosen), running[0])

    def wait_until_steady(self, service: str, new: Container, excused: set[str]) -> float:
        """Wait until the new api is ready, stays up for long enough and is ready again; the seconds until it was ready.

        Raises Problem. The probe costs something, and a login that was not answered is not tried again within a minute:
        in between it has to answer requests.
        """
        began = time.monotonic()
        ends = began + self.options.ready_seconds
        ready_since, ready_after, silent, next_probe = 0.0, 0.0, 0, 0.0
        failing = {"health": "it does not answer yet"}
        while True:
            new = self.host.running(new)
            now = time.monotonic()
            if now > ends:
                parts = "; ".join(f"{name}: {detail}" for name, detail in failing.items())
                raise Problem(f"it was not ready within {now - began:.0f} s: {parts}")
            silent = 0 if self.alive(new) else silent + 1
            if silent == SILENT:
                ready_since, failing = 0.0, {"health": "it does not answer"}
            steady = ready_since and now - ready_since >= self.options.steady_seconds
            if not silent and (steady or not ready_since) and now >= next_probe:
                failing = {name: text for name, text in self.failing(new).items() if name not in excused}
                next_probe = time.monotonic() + PROBE_PAUSE
                if FAILED_START in failing:
                    raise Problem(f"it started and is not usable: {failing[FAILED_START]}")
                if not failing and steady:
                    return ready_after
                if not failing:
                    ready_since = time.monotonic()
                    ready_after = ready_since - began
                    ends = ready_since + self.options.steady_seconds + AGAIN_SECONDS
            now = time.monotonic()
            state = f"ready for {now - ready_since:.0f} s" if ready_since else "not ready"
            names = f" ({', '.join(failing)})" if failing else ""
            progress(f"the new {service} is {state}{names}, {now - began:.0f} s after its start")
            time.sleep(LOOK_EVERY)

    def watch(self, new: Container, seconds: float) -> None:
        """Look at the new api while it gets requests and the old one could still take over. Raises Problem."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(0.2)
            self.host.running(new)
        if not self.alive(new):
            raise Problem("it stopped answering as soon as it got requests")

    def retire_api(self, service: str, old: Container) -> bool:
        """Stop the old api: it closes WebSockets with a close frame and finishes its requests. Whether it did."""
        progress(f"the old {service} finishes its requests, for up to {old.stop_seconds} s")
        gone = self.host.stop(old, old.stop_seconds)
        self.host.remove(old)
        return gone

    def forget_gate(self) -> None:
        """Let Caddy's health checks decide again, once they have noticed which container exists."""
        if self.gate.chosen():
            progress("waits until Caddy's health checks know the new container")
            time.sleep(CADDY_NOTICES)
            self.gate.clear()

    def alive(self, container: Container) -> bool:
        """Whether the api answers at all. It answers 200 long before it is ready, so this says little else."""
        connection = http.client.HTTPConnection(container.address, int(API_PORT.partition("/")[0]), timeout=5)
        try:
            connection.request("GET", self.options.health_path, headers={"X-Forwarded-For": OWN_ADDRESS})
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def failing(self, container: Container) -> dict[str, str]:
        """The parts of the readiness probe that fail in this container."""
        command = [self.options.ready, "--json", "--container", container.id]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        try:
            result = json.loads(done.stdout)
            failing = {part["name"]: part["detail"] for part in result["parts"] if not part["ok"]}
        except (ValueError, KeyError, TypeError):
            return {"probe": (done.stderr or done.stdout).strip()[-300:] or f"ended with {done.returncode}"}
        return failing if failing or result["ready"] else {"probe": "not ready, without a reason"}

    # ---------------------------------------------------------------- workers

    def worker(self, service: str) -> dict:
        """Replace a worker: the new one takes tasks before the old one takes no more."""
        began = time.monotonic()
        old, new = self.sort(service, lambda running: running[0], self.retire_worker)
        if old.definition == self.host.wanted(service):
            return {"service": service, "result": "unchanged"}
        new = new or self.host.start_second(service, [old])
        with self.removed_on_failure(service, new, lambda: None):
            self.wait_until_alive(service, new)
        cut = self.retire_worker(service, old, new.stop_seconds)  # as it is declared now
        return {"service": service, "result": "replaced", "cut": cut, "seconds": round(time.monotonic() - began)}

    def pause_worker(self, service: str, drained: Drained) -> dict:
        """Let a worker finish its tasks, and take no others until it is resumed; the tasks that were cut."""
        began, cut = time.monotonic(), []
        for container in self.host.containers(service):
            if container.running:
                drained.add(container)
                left = self.drain(service, container, container.stop_seconds)
                if left:  # see retire_worker
                    self.host.kill(container)
                cut += left
        return {"service": service, "result": "drained", "cut": cut, "seconds": round(time.monotonic() - began)}

    def resume_worker(self, service: str, drained: Drained) -> dict:
        """Let a worker that was drained take tasks again.

        One that was restarted since then does already. Docker does not start one that was killed.
        """
        resumed = False
        for container in self.host.containers(service):
            since = drained.since(container)
            if since and not (container.running and container.started > since):
                self.host.restart(container)
                resumed = True
            drained.clear(container)
        return {"service": service, "result": "resumed" if resumed else "unchanged"}

    def retire_worker(self, service: str, old: Container, limit: int = 0) -> list[dict]:
        """Let a worker finish its tasks and remove it; the tasks that were cut."""
        cut = self.drain(service, old, limit or old.stop_seconds)
        # One that has tasks left is killed: asked to stop, it would give them back, and the next worker would drop them
        # as duplicates. Of a killed one the broker delivers them again, long after.
        if not cut:
            self.host.stop(old, IDLE_STOP)
        self.host.remove(old)
        return cut

    def wait_until_alive(self, service: str, new: Container) -> None:
        """Wait until a worker's own health check has succeeded for a while. Raises Problem."""
        began = time.monotonic()
        since = 0.0
        while True:
            self.host.running(new)
            now = time.monotonic()
            if since and now - since >= WORKER_STEADY:
                return
            if not since and self.host.engine.healthy(new.id):
                since = time.monotonic()
            if now - began > self.options.ready_seconds:
                raise Problem(f"its health check did not succeed within {self.options.ready_seconds:g} s")
            progress(f"the new {service} is {'alive' if since else 'starting'}, {now - began:.0f} s after its start")
            time.sleep(LOOK_EVERY)

    def drain(self, service: str, old: Container, limit: int) -> list[dict]:
        """Let a worker finish its tasks; those that it did not finish within the limit."""
        command = ["docker", "exec", old.id, "python3", "/openmates/worker-drain.py", str(limit)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            last = ""
            for line in run.stdout or ():
                last = line.strip()
                if not last.startswith("{"):
                    progress(f"the old {service}: {last}")
        try:
            return list(json.loads(last)["cut"])
        except (ValueError, KeyError, TypeError):
            # It hangs, or its broker is away. Then it can only be stopped as Docker does it, with the same limit.
            progress(f"the old {service} cannot be asked for its tasks ({last}); it is stopped within {limit} s")
            stopped = self.host.stop(old, limit)
            return [] if stopped else [{"name": "unknown", "id": "unknown", "seconds": limit}]


@contextlib.contextmanager
def alone(file: pathlib.Path, seconds: float) -> Iterator[None]:
    """Wait until no other roll-out is under way, such as that of a run that was killed. Raises Problem."""
    file.parent.mkdir(exist_ok=True)
    file.parent.chmod(0o755)
    ends = time.monotonic() + seconds
    with file.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise Problem(f"another roll-out has been under way for {seconds:g} s.") from None
                progress("waits for a roll-out that is under way")
                time.sleep(2)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("/opt/openmates"))
    parser.add_argument("--project", default="openmates")
    parser.add_argument("--api", action="append", default=[], metavar="SERVICE")
    parser.add_argument("--worker", action="append", default=[], metavar="SERVICE")
    for option, what in (("--drain", "let it finish its tasks"), ("--resume", "let it take tasks again")):
        parser.add_argument(option, action="append", default=[], metavar="WORKER", help=what)
    parser.add_argument("--ready", default=READY, help="the readiness probe")
    parser.add_argument("--health-path", default="/v1/health")
    parser.add_argument("--ready-seconds", type=float, default=600, help="how long a new container may take")
    parser.add_argument("--steady-seconds", type=float, default=30, help="how long the api must be ready before")
    options = parser.parse_args()
    rollout, drained = Rollout(Host(options.directory, options.project), Gate(RUN / "gate"), options), Drained(DRAINED)
    steps: list[tuple[Callable[[str], dict], list[str]]] = [
        (rollout.api, options.api),
        (rollout.worker, options.worker),
        (lambda service: rollout.pause_worker(service, drained), options.drain),
        (lambda service: rollout.resume_worker(service, drained), options.resume),
    ]
    try:
        with alone(RUN / "rollout.lock", options.ready_seconds + 600):
            for do, services in steps:
                for service in services:
                    print(json.dumps(do(service)), flush=True)
    except (Problem, DockerProblem) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
