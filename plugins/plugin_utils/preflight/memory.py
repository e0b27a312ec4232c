# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the memory limits fit the server."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.memory_plan import (
    SYSTEM_MB,
    app_limit,
    make_plan,
    megabytes,
)
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.exposure import SERVICES
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer

#: Assumed memory of a host that does not report it: the smallest supported server.
SMALLEST_SERVER_MB = 7700


def usable_memory(run: Preflight) -> int | None:
    """The memory to plan for, in MB; None if neither the settings nor the host define it."""
    declared, reported = integer(run.get("openmates_host_memory_mb", 0)), integer(run.facts.get("memtotal_mb"))
    return declared if declared and declared > 0 else reported


def check_host_memory(run: Preflight) -> Iterator[str]:
    name = "openmates_host_memory_mb"
    declared, reported = integer(run.get(name, 0)), integer(run.facts.get("memtotal_mb"))
    if name in run.broken:
        return
    if declared is None or declared < 0:
        yield run.problem(name, f"{run.get(name)!r} is not a number", "Set it to megabytes, or to 0 for all memory")
    elif reported is not None and declared > reported:
        yield run.problem(
            name,
            f"it is {declared} MB, but this host has {reported} MB",
            "Set it to 0, or to at most what the host has",
        )


def check_memory(run: Preflight) -> Iterator[str]:
    name, have = "openmates_min_memory_mb", usable_memory(run)
    minimum = integer(run.get(name, 7000))
    if minimum is None:
        yield run.problem(name, "it is not a number", "Set it to megabytes, e.g. 7000")
    elif have is not None and have < minimum:
        yield run.host_problem(
            f"it has {have} MB of memory, fewer than {minimum} MB ({name})", "Use a server with 8 GB"
        )


def check_limits(run: Preflight) -> Iterator[str]:
    """Every service has a memory limit, and the plan that follows from all of them fits the host."""
    name, limits = "openmates_memory", run.get("openmates_memory")
    if limits is None:
        return
    if not isinstance(limits, dict):
        yield run.problem(name, "it is not a table of services", "Give each service a limit such as 256M")
        return
    apps = run.get("openmates_apps", []) if run.usable("openmates_apps", list) else []
    apps = [app for app in apps if isinstance(app, dict)]
    for service in SERVICES:
        if service not in limits:
            yield run.problem(name, f"{service} has no memory limit", f"Add one, e.g. `{service}: 256M`")
    for service, limit in limits.items():
        if megabytes(limit) is None:
            yield run.problem(name, f"the memory limit of {service} is {limit!r}", "Write it as 256M or 1G")
    for app in apps:
        if megabytes(app_limit(app)) is None:
            yield run.problem(
                "openmates_apps",
                f"the memory limit of {app.get('name')} is {app_limit(app)!r}",
                "Write it as 256M or 1G",
            )
    plan, have = make_plan(limits, apps), usable_memory(run) or SMALLEST_SERVER_MB
    too_small = have < (integer(run.get("openmates_min_memory_mb", 7000)) or 0)  # reported as a separate problem
    if plan.total > have and not too_small:
        of_apps = f", {sum(plan.apps.values()):.0f} for openmates_apps" if plan.apps else ""
        yield run.problem(
            name,
            f"the limits add up to {plan.total:.0f} MB, but this host has {have} MB: {SYSTEM_MB} for the system, "
            f"{sum(plan.services.values()):.0f} for the services{of_apps}, {plan.reserve:.0f} for {plan.largest}",
            "Lower some limits, leave out an App, or use a larger server; docs/resources.md explains the sum",
        )


CHECKS = (check_host_memory, check_memory, check_limits)
