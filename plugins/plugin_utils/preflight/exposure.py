# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that are reachable from outside, and their ports."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import ENVIRONMENTS, Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import field
from ansible_collections.openmates.server.plugins.plugin_utils.services.ports import EXPOSURES, host_ports


def check_exposure(run: Preflight) -> Iterator[str]:
    name, exposure = "openmates_exposure", run.get("openmates_exposure")
    if name in run.broken or (exposure is None and run.environment not in ENVIRONMENTS):
        return  # reported as an unknown environment
    if not isinstance(exposure, dict):
        yield run.problem(name, "it is not a table of services", "Restore the file from the project")
        return
    for service in [service for service in exposure if service not in run.services]:
        close = difflib.get_close_matches(str(service), run.services, n=1)
        hint = f"Did you mean {close[0]}?" if close else "Remove it; apps belong in openmates_apps"
        yield run.problem(name, f"{service!r} is not a service", hint)
    for service in run.services:
        mode = exposure.get(service, "internal")
        if mode not in EXPOSURES:
            yield run.problem(name, f"{service} is {mode!r}", f"Use one of {', '.join(EXPOSURES)}")
        else:
            yield from _check_allowed(run, name, service, mode)


def _check_allowed(run: Preflight, name: str, service: str, mode: str) -> Iterator[str]:
    possible = [other for other, fields in run.services.items() if fields.get("host_port")]
    if run.environment == "prod":
        wanted = "proxy" if service == "api" else "internal"
        if mode != wanted:
            yield run.problem(
                name,
                f"{service} is {mode}, which the architecture guidelines forbid in production",
                f"Set `{service}: {wanted}`; reach internal tools through an SSH tunnel",
            )
    elif mode != "internal" and service not in possible:
        yield run.problem(
            name,
            f"{service} is {mode}, but in development the architecture guidelines expose only "
            f"{', '.join(possible)}, the services with a host_port",
            f"Set `{service}: internal`",
        )


def check_ports(run: Preflight) -> Iterator[str]:
    for service, port in exposed(run).items():
        try:
            host_ports(port)
        except ValueError:
            yield run.problem(
                field(service, "host_port"),
                f"{port!r} is not a port",
                "Give it a port or a range such as 8000-8001, from 1 to 65535",
            )
        if not run.services[service]["container_port"]:
            yield run.problem(field(service, "container_port"), "an exposed service needs one", "Add it")


def check_ports_differ(run: Preflight) -> Iterator[str]:
    users: dict[int, list[str]] = {}
    users[run.get("openmates_ssh_port", 22)] = ["SSH (openmates_ssh_port)"]
    if str(run.get("openmates_domain", "")).strip():
        for port in (80, 443):
            users.setdefault(port, []).append("Caddy")
    for service, value in exposed(run).items():
        try:
            for port in host_ports(value):
                users.setdefault(port, []).append(service)
        except ValueError:
            continue  # reported by check_ports
    clashes: dict[tuple[str, ...], list[int]] = {}
    for port, names in users.items():
        if len(names) > 1:
            clashes.setdefault(tuple(names), []).append(port)
    for names, ports in clashes.items():
        numbers = ", ".join(map(str, sorted(ports)))
        possible = [field(name, "host_port") for name in names if name in run.services]
        yield run.problem(
            next((name for name in possible if name in run.places), possible[-1] if possible else "openmates_ssh_port"),
            f"{' and '.join(names)} both use host port {numbers}",
            "Give one of them another host port",
        )


def exposed(run: Preflight) -> dict[str, str]:
    """The host port of each service that is not internal and has one."""
    exposure = run.get("openmates_exposure")
    if not isinstance(exposure, dict):
        return {}
    modes = {service: exposure.get(service) for service in run.services}
    return {
        service: run.services[service]["host_port"]
        for service, mode in modes.items()
        if mode in ("proxy", "published") and run.services[service].get("host_port")
    }


CHECKS = (
    check_exposure,
    check_ports,
    check_ports_differ,
)
