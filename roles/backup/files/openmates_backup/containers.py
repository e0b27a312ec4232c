# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running containers of the Compose project."""

from __future__ import annotations

import functools
import json
import typing as t

from openmates_backup import commands
from openmates_backup.problem import NotReady, Problem


class Containers:
    """What Docker knows of the services, as they were at the first question about each."""

    def __init__(self, project: str) -> None:
        self.project = project

    @functools.cache  # noqa: B019 - as long-lived as the process
    def inspect(self, service: str) -> dict[str, t.Any]:
        """The service's running container. Raises Problem."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        command = ["docker", "ps", "--quiet", "--no-trunc", *(f"--filter=label={label}" for label in labels)]
        found = commands.output(command, "Asking Docker for its containers").decode().split()
        if not found:
            raise NotReady(f"No container of the service {service} runs. See: sudo docker compose ps --all {service}")
        shown = commands.output(["docker", "inspect", found[0]], f"Asking Docker for the container of {service}")
        return json.loads(shown)[0]

    def require_started(self, services: t.Iterable[str]) -> None:
        """Raises NotReady unless each runs, and its health check has not still to pass for the first time."""
        for service in services:
            if self.inspect(service)["State"].get("Health", {}).get("Status") == "starting":
                raise NotReady(f"The service {service} is still starting. See: sudo docker compose logs {service}")

    def address(self, service: str) -> str:
        """The IPv4 address of a service. Raises Problem."""
        for network in self.inspect(service)["NetworkSettings"]["Networks"].values():
            if network["IPAddress"]:
                return network["IPAddress"]
        raise Problem(f"The container of the service {service} has no address.")

    def environment(self, service: str, name: str, default: str) -> str:
        """A variable that the container was made with; none of them is a secret."""
        pairs = (entry.partition("=") for entry in self.inspect(service)["Config"]["Env"])
        return next((value for found, _, value in pairs if found == name), default)

    def inside(self, service: str, *command: str) -> list[str]:
        """The command that runs another one in a service's container, with its standard input."""
        return ["docker", "exec", "--interactive", self.inspect(service)["Id"], *command]
