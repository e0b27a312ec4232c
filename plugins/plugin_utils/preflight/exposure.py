# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that are reachable from outside, and their ports."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.filter.exposure import EXPOSURES, host_ports
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import ENVIRONMENTS, Preflight, integer

SERVICES = (
    "api",
    "cms",
    "grafana",
    "cms-database",
    "cache",
    "vault",
    "task-worker",
    "task-scheduler",
    "prometheus",
    "loki",
    "promtail",
    "cadvisor",
    "vault-setup",
    "cms-setup",
)
DEVELOPMENT_SERVICES = ("api", "cms", "grafana")


def check_exposure(run: Preflight) -> Iterator[str]:
    name, exposure = "openmates_exposure", run.get("openmates_exposure")
    if name in run.broken or (exposure is None and run.environment not in ENVIRONMENTS):
        return  # reported as an unknown environment
    if not isinstance(exposure, dict):
        yield run.problem(name, "it is not a table of services", "Restore the file from the project")
        return
    missing = [service for service in SERVICES if service not in exposure]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield run.problem(name, f"{', '.join(missing)} {verb} missing", f"Add `{missing[0]}: internal` and so on")
    for service, mode in exposure.items():
        if service not in SERVICES:
            close = difflib.get_close_matches(str(service), SERVICES, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Remove it; apps belong in openmates_apps"
            yield run.problem(name, f"{service!r} is not a service", hint)
        elif mode not in EXPOSURES:
            yield run.problem(name, f"{service} is {mode!r}", f"Use one of {', '.join(EXPOSURES)}")
        else:
            yield from _check_allowed(run, name, service, mode)


def _check_allowed(run: Preflight, name: str, service: str, mode: str) -> Iterator[str]:
    if run.environment == "prod":
        wanted = "proxy" if service == "api" else "internal"
        if mode != wanted:
            yield run.problem(
                name,
                f"{service} is {mode}, which the architecture guidelines forbid in production",
                f"Set `{service}: {wanted}`; reach internal tools through an SSH tunnel",
            )
    elif mode != "internal" and service not in DEVELOPMENT_SERVICES:
        yield run.problem(
            name,
            f"{service} is {mode}, but in development the architecture guidelines expose only "
            f"{', '.join(DEVELOPMENT_SERVICES)}",
            f"Set `{service}: internal`",
        )


def check_ports(run: Preflight) -> Iterator[str]:
    name = "openmates_ports"
    services = exposed(run)
    if name in run.broken or not services:
        return
    for service in services:
        entry = run.get(name, {}).get(service) if run.usable(name, dict) else None
        if not isinstance(entry, dict) or not {"host", "container"} <= set(entry):
            yield run.problem(
                name, f"{service} is exposed but has no ports", f"Add `{service}: {{container: ..., host: ...}}`"
            )
            continue
        for side, value in (("host", entry["host"]), ("container", entry["container"])):
            single = side == "container"
            try:
                count = len(host_ports(value))
            except ValueError:
                count = 0
            if count == 0 or (single and count > 1):
                shape = "a number" if single else "a number or a range such as 8000-8001"
                yield run.problem(
                    name, f"the {side} port of {service} is {value!r}", f"Give it {shape} from 1 to 65535"
                )


def check_ports_differ(run: Preflight) -> Iterator[str]:
    users: dict[int, list[str]] = {}
    ssh_port = integer(run.get("openmates_ssh_port", 22))
    if ssh_port is not None:
        users[ssh_port] = ["SSH (openmates_ssh_port)"]
    if str(run.get("openmates_domain", "")).strip():
        for port in (80, 443):
            users.setdefault(port, []).append("Caddy")
    for service in exposed(run):
        entry = run.get("openmates_ports", {}).get(service) if run.usable("openmates_ports", dict) else None
        try:
            for port in host_ports(entry["host"]):
                users.setdefault(port, []).append(service)
        except (KeyError, TypeError, ValueError):
            continue  # reported by check_ports
    clashes: dict[tuple[str, ...], list[int]] = {}
    for port, names in users.items():
        if len(names) > 1:
            clashes.setdefault(tuple(names), []).append(port)
    for names, ports in clashes.items():
        numbers = ", ".join(map(str, sorted(ports)))
        yield run.problem(
            "openmates_ports",
            f"{' and '.join(names)} both use host port {numbers}",
            "Give one of them another host port",
        )


def exposed(run: Preflight) -> list[str]:
    exposure = run.get("openmates_exposure")
    if not isinstance(exposure, dict):
        return []
    return [service for service, mode in exposure.items() if mode in ("proxy", "published")]


CHECKS = (
    check_exposure,
    check_ports,
    check_ports_differ,
)
