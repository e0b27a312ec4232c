# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the outage watcher sees of the services, as metrics: roles/heal installs this file beside its program."""

from __future__ import annotations

import collections
import contextlib
import re
import typing as t
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils import metrics
except ImportError:  # on the host it is beside this file
    import metrics

PREFIX, FILE = "openmates", "services"
EVERY = 30  # seconds after which an unchanged file is written again: its age shows whether the watcher works
ID_LENGTH = 12  # of a container's id, as the labels of the logs have it
#: A service in its first ten seconds. One that ends sooner is started again by Docker after delays that grow to a
#: minute; if its short lives counted as running, they would end an alert again and again.
YOUNG = re.compile(r"Up (Less than a second|\d seconds?)\b")

#: What happened, "start" or "oom", and to which service.
Events = Iterable[tuple[str, str]]


class Seen(t.Protocol):
    """A container that runs or restarts, as the watcher lists it."""

    identity: str
    service: str
    status: str
    unhealthy: bool


class ServiceMetrics:
    """Writes the file when something has changed, and now and then."""

    def __init__(self, directory: Path, services: Iterable[str], now: float, schedule: Path | None = None) -> None:
        self.directory, self.services, self.schedule = directory, sorted(services), schedule
        self.counted = {"start": collections.Counter(), "oom": collections.Counter()}
        self.clients: set[str] = set()
        self.refused: set[str] = set()
        self.events_until = now
        self.written: tuple[float, metrics.Samples] = (0, {})

    def write(
        self,
        containers: Iterable[Seen],
        unreachable: set[str],
        failing: Iterable[str],
        refused: Mapping[str, bool | None],
        events: Callable[[float, float], Events],
        now: float,
    ) -> None:
        """Write what a round has seen. ``failing``: the parts of the readiness probe. ``refused``: by service, whether
        the cache refuses it; None: it has not tried, and what was known counts. Raises OSError."""
        for name, service in events(self.events_until, now):
            self.counted[name][service] += 1
        self.events_until = now
        containers = list(containers)
        self.clients |= refused.keys()
        self.refused |= {service for service, known in refused.items() if known}
        self.refused &= {container.service for container in containers}
        self.refused -= {service for service, known in refused.items() if known is False}
        samples = self._samples(containers, unreachable, sorted(failing))
        if samples != self.written[1] or not 0 <= now - self.written[0] < EVERY:
            metrics.write(self.directory, PREFIX, samples, FILE)
            self.written = (now, samples)

    def _samples(self, containers: list[Seen], unreachable: set[str], failing: list[str]) -> metrics.Samples:
        up = {
            container.service
            for container in containers
            if container.status.startswith("Up") and not YOUNG.match(container.status)
        }
        starting = {container.service for container in containers if "health: starting" in container.status}
        unhealthy = {container.service for container in containers if container.unhealthy} | unreachable
        well = up - unhealthy
        samples: dict[str, tuple[float | None, str]] = {}
        for name, found, meaning in (
            ("service_up", up, "Whether a container of the service has run for ten seconds."),
            ("service_starting", starting, "Whether its health check has not succeeded since its start."),
            ("service_healthy", well, "Whether it runs, takes connections, and is not unhealthy."),
        ):
            samples |= {_of(name, service): (float(service in found), meaning) for service in self.services}
        about = "Whether the cache refuses its login, as of its last attempt."
        for service in sorted(self.clients.intersection(self.services)):
            samples[_of("service_refused", service)] = (float(service in self.refused), about)
        for name, event, meaning in (
            ("service_starts_total", "start", "Starts of its containers that the watcher has seen."),
            ("service_oom_kills_total", "oom", "Processes of it that were killed for their container's memory limit."),
        ):
            samples |= {_of(name, service): (self.counted[event][service], meaning) for service in self.services}
        samples["schedule_saved_timestamp_seconds"] = (self._saved(), "When the scheduler saved its schedule last.")
        about = "The containers by the id that the logs and cAdvisor have."
        for container in sorted(containers, key=lambda item: (item.service, item.identity)):
            labels = {"container_id": container.identity[:ID_LENGTH], "service": container.service}
            samples[metrics.labelled("container_info", **labels)] = (1, about)
        samples["ready"] = (float(not failing), "Whether the readiness probe succeeded when it last ran.")
        for part in failing:
            samples[metrics.labelled("ready_failing", part=part)] = (1, "The parts of the probe that failed.")
        return samples

    def _saved(self) -> float | None:
        times: list[float] = []
        for file in self.schedule.glob("celerybeat-schedule*") if self.schedule else ():
            with contextlib.suppress(FileNotFoundError):  # the scheduler's database has files that come and go
                times.append(file.stat().st_mtime)
        return max(times, default=None)


def _of(name: str, service: str) -> str:
    return metrics.labelled(name, service=service)
