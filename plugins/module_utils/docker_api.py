# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few calls of the engine's API that programs on the host need: Vault's and the outage watcher.

Standard library only."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse

SOCKET = "/run/docker.sock"
CALL_SECONDS = 10


class DockerProblem(Exception):
    """Why the engine did not do what was asked, in one sentence."""


class NotFound(DockerProblem):
    """The engine has no such object."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Docker:
    """The containers of one Compose project, without the command line, which costs many times the processor time."""

    def __init__(self, project: str) -> None:
        self.project = project

    def call(self, method: str, path: str, body: dict | None = None, seconds: float = CALL_SECONDS) -> object:
        answered = self._request(method, path, body, seconds)
        try:
            return json.loads(answered) if answered else None
        except ValueError:  # a program's output
            return None

    def events(self, names: list[str], since: float, until: float) -> list[dict]:
        """What happened to the project's containers between two moments of the past, as Docker remembers it."""
        label = [f"com.docker.compose.project={self.project}"]
        filters = urllib.parse.quote(json.dumps({"type": ["container"], "event": names, "label": label}))
        answered = self._request("GET", f"/events?since={since:.9f}&until={until:.9f}&filters={filters}")
        return [json.loads(line) for line in answered.splitlines() if line.strip()]

    def _request(self, method: str, path: str, body: dict | None = None, seconds: float = CALL_SECONDS) -> bytes:
        connection = UnixConnection(SOCKET)
        connection.timeout = seconds
        content = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), content)
            answer = connection.getresponse()
            answered = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DockerProblem(f"Docker does not answer: {error}.") from None
        finally:
            connection.close()
        if answer.status >= 400:
            kind = NotFound if answer.status == 404 else DockerProblem
            raise kind(f"Docker refuses {method} {path}: {answered.decode(errors='replace').strip()}.")
        return answered

    def inspect(self, kind: str, name: str) -> dict | None:
        """What is known of an object (containers, images, networks, volumes); None if there is none of that name."""
        try:
            return self.call("GET", f"/{kind}/{name}/json" if kind in ("containers", "images") else f"/{kind}/{name}")
        except NotFound:
            return None

    def containers(self, service: str = "", running: bool = True) -> list[dict]:
        """What is known of each container of a service, or of all services; `running`: only of those that run."""
        labels = [f"com.docker.compose.project={self.project}"]
        labels += [f"com.docker.compose.service={service}"] * bool(service)
        wanted = {"label": labels} | ({"status": ["running"]} if running else {})
        filters = json.dumps(wanted).replace(" ", "").replace('"', "%22")
        found = self.call("GET", f"/containers/json?all=true&filters={filters}")
        inspected = (self.inspect("containers", entry["Id"]) for entry in found)
        return [container for container in inspected if container]  # without one that was removed meanwhile

    def address(self, service: str) -> str | None:
        """The IPv4 address of a service's running container, which changes when it is replaced."""
        for container in self.containers(service):
            for network in container["NetworkSettings"]["Networks"].values():
                if network["IPAddress"]:
                    return network["IPAddress"]
        return None

    def restart(self, service: str, container: dict, seconds: float) -> None:
        """Restart a container and wait until it is healthy, or running if it has no health check."""
        # Docker waits as long as the container is given to stop, in which a worker finishes what it does.
        grace = container.get("Config", {}).get("StopTimeout") or 10
        self.call("POST", f"/containers/{container['Id']}/restart", seconds=grace + 60)
        end = time.monotonic() + seconds
        while not self.healthy(container["Id"]):
            if time.monotonic() > end:
                raise DockerProblem(
                    f"{service} was restarted for a new secret and is not healthy after {seconds:.0f} s."
                )
            time.sleep(1)

    def healthy(self, container: str) -> bool:
        """Whether a container runs and its health check succeeds now: Docker itself may check only once a minute."""
        found = self.call("GET", f"/containers/{container}/json")
        kind, *command = (found["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
        if not found["State"]["Running"] or kind == "NONE":
            return found["State"]["Running"]
        if kind == "CMD-SHELL":
            command = ["/bin/sh", "-c", *command]
        try:
            check = self.call("POST", f"/containers/{container}/exec", {"Cmd": command})["Id"]
            self.call("POST", f"/exec/{check}/start", {"Detach": True})
            end = time.monotonic() + 30
            while (state := self.call("GET", f"/exec/{check}/json"))["Running"] and time.monotonic() < end:
                time.sleep(0.5)
        except DockerProblem:
            return False  # it has just stopped again
        return state["ExitCode"] == 0
