# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services: limits, choices, network and paths."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.exposure import SERVICES
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, address_of, integer

LOG_LEVELS = ("debug", "info", "warning", "error")
VAULT_ENGINES = ("vault", "openbao")
GIB = 1024  # in MiB
# The limits of all containers together: what an 8 GB server can give and still have room for itself.
SMALLEST_BUDGET_MB = int(6.5 * GIB)
HOST_RESERVE_MB = int(1.5 * GIB)
MEMORY = re.compile(r"^(\d+)([bkmg]?)b?$", re.IGNORECASE)


def _megabytes(limit: Any) -> float | None:
    """A Compose memory limit in MiB, or None when it is not one."""
    match = MEMORY.match(str(limit))
    if not match or int(match[1]) == 0:
        return None
    return int(match[1]) * {"": 1 / GIB**2, "b": 1 / GIB**2, "k": 1 / GIB, "m": 1, "g": GIB}[match[2].lower()]


def _app_memory(app: dict) -> Any:
    return app.get("memory", "1024M" if app.get("kind") == "worker" else "128M")


def check_limits(run: Preflight) -> Iterator[str]:
    """Every service has a memory limit, and all of them together fit the host."""
    name, limits = "openmates_memory", run.get("openmates_memory")
    if limits is None:
        return
    if not isinstance(limits, dict):
        yield run.problem(name, "it is not a table of services", "Give each service a limit such as 256M")
        return
    apps = (
        [app for app in run.get("openmates_apps", []) if isinstance(app, dict)]
        if run.usable("openmates_apps", list)
        else []
    )
    total = 0.0
    for service in SERVICES:
        if service not in limits:
            yield run.problem(name, f"{service} has no memory limit", f"Add one, e.g. `{service}: 256M`")
    for service, limit in [*limits.items(), *((app.get("name"), _app_memory(app)) for app in apps)]:
        size = _megabytes(limit)
        if size is None:
            yield run.problem(name, f"the memory limit of {service} is {limit!r}", "Write it as 256M or 1G")
        total += size or 0
    budget = max(SMALLEST_BUDGET_MB, (integer(run.facts.get("memtotal_mb")) or 0) - HOST_RESERVE_MB)
    if total > budget:
        yield run.problem(
            name,
            f"the limits of all services and apps add up to {total:.0f} MB, but this host has {budget} MB to give",
            "Lower some of them, or use a larger server",
        )


def check_choices(run: Preflight) -> Iterator[str]:
    """Settings with a fixed set of values."""
    for name, choices in (("openmates_vault_engine", VAULT_ENGINES), ("openmates_log_level", LOG_LEVELS)):
        if name in run.settings and run.settings[name] not in choices:
            yield run.problem(name, f"{run.settings[name]!r} is unknown", f"Use one of {', '.join(choices)}")


def check_login_attempts(run: Preflight) -> Iterator[str]:
    name = "openmates_directus_login_attempts"
    attempts = run.get(name, 25)
    if name not in run.broken and (isinstance(attempts, bool) or integer(attempts) is None or integer(attempts) < 0):
        yield run.problem(
            name, f"{attempts!r} is not a number of logins", "Write 0 for no limit, or a number such as 25"
        )


def check_paths(run: Preflight) -> Iterator[str]:
    directory = str(run.get("openmates_directory", "/opt/openmates"))
    if not re.match(r"^(/[A-Za-z0-9._-]+){2,}$", directory):
        yield run.problem(
            "openmates_directory",
            f"{directory!r} is not a directory of its own",
            "Use an absolute path such as /opt/openmates",
        )


def check_subnet(run: Preflight) -> Iterator[str]:
    name, text = "openmates_subnet", run.get("openmates_subnet")
    if text is None:
        return
    try:
        subnet = ipaddress.ip_network(str(text))
    except ValueError as error:
        yield run.problem(name, str(error), "Write it as 172.30.0.0/24")
        return
    default = run.facts.get("default_ipv4") or {}
    for text in (default.get("address"), default.get("gateway")):
        address = address_of(text or "")
        if address is not None and address.version == subnet.version and address in subnet:
            yield run.problem(
                name,
                f"{subnet} holds {address}, which the host's own network uses",
                "Choose a private range that the host's network does not use, e.g. 172.31.0.0/24",
            )
            return


CHECKS = (
    check_limits,
    check_choices,
    check_login_attempts,
    check_paths,
    check_subnet,
)
