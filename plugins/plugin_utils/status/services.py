# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of a server, one container each: that which serves."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import service_trouble

#: What others need comes first, because a failure of it explains theirs.
ORDER = ("cms-database", "cache", "vault", "vault-setup", "cms", "cms-setup", "api", "task-worker", "task-scheduler")
#: A service that has been starting for longer than that is a problem.
START_SECONDS = 300
#: A restart that Docker made counts as a problem for so long.
RESTART_SECONDS = 3600
MISSING: Mapping = {"state": "missing", "health": "", "exit_code": 0}


def containers(seen: Mapping) -> dict[str, Mapping]:
    """Each service that is expected or exists, with the facts of its container."""
    found, expected = seen["info"].get("services") or {}, seen.get("expected_services") or []
    names = [name for name in ORDER if name in expected or name in found]
    names += [name for name in [*expected, *found] if name not in ORDER]
    return {name: _serving(found.get(name) or []) for name in dict.fromkeys(names)}


def _serving(containers_of_it: list[Mapping]) -> Mapping:
    """Of several containers, as during a roll-out, the newest that is fine: it, or the older one, serves."""
    fine = [one for one in containers_of_it if not service_trouble({"services": {"it": one}}, "it")]
    return next(iter(fine or containers_of_it), MISSING)


def trouble(seen: Mapping, name: str, container: Mapping) -> str:
    """Why a service does not work, or an empty string."""
    found = service_trouble({"services": {name: container}}, name)
    started = container.get("started")
    young = started is not None and seen["info"]["time"] - started < START_SECONDS
    return "" if container.get("health") == "starting" and young else found


def since(container: Mapping) -> float | None:
    """When its present state began."""
    return container.get("started") if container["state"] == "running" else container.get("finished")


def killed(seen: Mapping, container: Mapping) -> bool:
    """Whether the kernel killed a process in it for memory."""
    listed = container.get("id") in (seen["info"].get("killed_containers") or [])
    return bool(container.get("out_of_memory")) or listed


def restarted(seen: Mapping, container: Mapping) -> bool:
    """Whether Docker has just restarted it because it ended by itself."""
    recent = seen["info"]["time"] - (container.get("started") or 0) < RESTART_SECONDS
    return bool(container.get("restarts")) and recent and container["state"] == "running"
