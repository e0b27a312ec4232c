# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of a Compose project, by service, as Docker's engine describes them."""

from __future__ import annotations

import calendar
import contextlib
import json
import time
import typing as t
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
from ansible_collections.openmates.server.plugins.module_utils.docker_state import RUNNING

_SERVICE = "com.docker.compose.service"
_ONE_OFF = "com.docker.compose.oneoff"
THREADS = 8


def found(engine: Docker) -> tuple[dict[str, list[dict]], str]:
    """Each service's containers, the newest first, and why they could not be read."""
    if not RUNNING.exists():  # to connect to the socket would start the engine
        return {}, "Docker does not run"
    try:
        label = json.dumps({"label": [f"com.docker.compose.project={engine.project}"]})
        listed = engine.call("GET", f"/containers/json?all=1&filters={urllib.parse.quote(label)}")
    except DockerProblem as problem:
        return {}, str(problem).rstrip(".")
    wanted = [entry for entry in listed if entry["Labels"].get(_ONE_OFF) != "True"]
    with ThreadPoolExecutor(THREADS) as pool:
        facts = list(pool.map(lambda entry: _described(engine, entry["Id"]), wanted))
    services: dict[str, list[dict]] = {}
    for entry, fact in sorted(zip(wanted, facts, strict=True), key=lambda pair: -pair[0]["Created"]):
        if fact:
            services.setdefault(entry["Labels"][_SERVICE], []).append(fact)
    return services, ""


def _described(engine: Docker, identity: str) -> dict | None:
    """What the report needs of a container; None if it is gone by now."""
    try:
        container = engine.call("GET", f"/containers/{identity}/json")
    except DockerProblem:
        return None
    used = None
    if container["State"]["Status"] == "running":
        with contextlib.suppress(DockerProblem):
            used = memory(engine.call("GET", f"/containers/{identity}/stats?stream=false&one-shot=true"))
    return summary(container) | {"memory": used}


def summary(container: t.Mapping[str, t.Any]) -> dict:
    """The facts of `docker inspect` that the report needs."""
    state, host = container["State"], container["HostConfig"]
    networks = container["NetworkSettings"]["Networks"].values()
    return {
        "id": container["Id"],
        "state": state["Status"],
        "health": (state.get("Health") or {}).get("Status", ""),
        "exit_code": state["ExitCode"],
        "image": container["Config"]["Image"],
        "address": next((network["IPAddress"] for network in networks if network["IPAddress"]), ""),
        "one_shot": (host.get("RestartPolicy") or {}).get("Name") in ("", "no"),
        "created": moment(container["Created"]),
        "started": moment(state["StartedAt"]),
        "finished": moment(state["FinishedAt"]),
        "restarts": container.get("RestartCount", 0),
        "out_of_memory": bool(state.get("OOMKilled")),
        "memory_limit": host.get("Memory") or None,
    }


def memory(stats: t.Mapping[str, t.Any]) -> int | None:
    """The bytes that cannot be reclaimed, as `docker stats` counts them; None if they are not known."""
    found = stats.get("memory_stats") or {}
    if "usage" not in found:
        return None
    details = found.get("stats") or {}
    # The second version of control groups has the first name, the first version the second.
    cache = details.get("inactive_file", 0) if "total_inactive_file" not in details else details["total_inactive_file"]
    return max(found["usage"] - cache, 0)


def moment(text: str) -> float | None:
    """Seconds since 1970 of Docker's 2026-11-22T15:00:00.123456789Z; None for the time that never was, year 1."""
    if text.startswith("0001"):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")
