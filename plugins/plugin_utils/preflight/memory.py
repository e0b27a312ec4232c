# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the memory limits fit the server."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import SETTING, field
from ansible_collections.openmates.server.plugins.plugin_utils.services.memory import (
    SYSTEM_MB,
    app_limit,
    make_plan,
    megabytes,
)

#: Assumed memory of a host that does not report it: the smallest supported server.
SMALLEST_SERVER_MB = 7700
#: What Dragonfly needs for the two threads that docker-compose.yml.j2 gives it.
CACHE_MB = 512


def usable_memory(run: Preflight) -> int | None:
    """The memory to plan for, in MB; None if neither the settings nor the host define it."""
    declared = run.get("openmates_host_memory_mb", 0)
    return declared if declared > 0 else integer(run.facts.get("memtotal_mb"))


def check_host_memory(run: Preflight) -> Iterator[str]:
    name = "openmates_host_memory_mb"
    declared, reported = run.get(name, 0), integer(run.facts.get("memtotal_mb"))
    if reported is not None and declared > reported:
        yield run.problem(
            name,
            f"it is {declared} MB, but this host has {reported} MB",
            "Set it to 0, or to at most what the host has",
        )


def check_memory(run: Preflight) -> Iterator[str]:
    name, have = "openmates_min_memory_mb", usable_memory(run)
    minimum = run.get(name, 7000)
    if have is not None and have < minimum:
        yield run.host_problem(
            f"it has {have} MB of memory, fewer than {minimum} MB ({name})", "Use a server with 8 GB"
        )


def check_limits(run: Preflight) -> Iterator[str]:
    """Every service has a memory limit, and the plan that follows from all of them fits the host."""
    if not run.services:
        return
    apps = run.get("openmates_apps", [])
    for service, fields in run.services.items():
        if "memory" in fields and megabytes(fields["memory"]) is None:
            yield run.problem(
                field(service, "memory"), f"{fields['memory']!r} is not a memory limit", "Write it as 256M or 1G"
            )
    for app in apps:
        if megabytes(app_limit(app)) is None:
            yield run.problem(
                "openmates_apps",
                f"the memory limit of {app.get('name')} is {app_limit(app)!r}",
                "Write it as 256M or 1G",
            )
    plan, have = make_plan(run.services, apps), usable_memory(run) or SMALLEST_SERVER_MB
    too_small = have < run.get("openmates_min_memory_mb", 7000)  # reported as a separate problem
    if plan.total > have and not too_small:
        of_apps = f", {sum(plan.apps.values()):.0f} for openmates_apps" if plan.apps else ""
        yield run.problem(
            SETTING,
            f"the memory limits add up to {plan.total:.0f} MB, but this host has {have} MB: {SYSTEM_MB} for the "
            f"system, {sum(plan.services.values()):.0f} for the services{of_apps}, {plan.reserve:.0f} for "
            f"{plan.largest}",
            "Lower some limits, leave out an App, or use a larger server; docs/resources.md explains the sum",
        )


def check_cache(run: Preflight) -> Iterator[str]:
    """Dragonfly ends at once with too little, and the kernel ends it where its container may have less than it."""
    name = "openmates_cache_maxmemory"
    written = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", str(run.get(name, "")))
    if not written:
        return  # reported by its form
    size = float(written[1]) * {"": 1 / 1024**2, "k": 1 / 1024, "m": 1, "g": 1024}[written[2]]
    limit = megabytes((run.services.get("cache") or {}).get("memory"))
    if size < CACHE_MB:
        yield run.problem(
            name,
            f"{run.get(name)} is too little: the cache has two threads, and Dragonfly needs 256 MiB for each",
            f"Set it to {CACHE_MB}mb or more",
        )
    elif limit and size > limit:
        yield run.problem(
            name,
            f"the cache may hold {run.get(name)}, but its container has {limit:.0f} MB",
            f"Set openmates_services: {{cache: {{memory: {size * 1.25:.0f}M}}}}, or lower it",
        )


CHECKS = (check_host_memory, check_memory, check_limits, check_cache)
