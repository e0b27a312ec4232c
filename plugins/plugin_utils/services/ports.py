# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the host that follow from the services' exposure."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

EXPOSURES = ("internal", "proxy", "published")


def host_ports(value: int | str) -> list[int]:
    """The ports of a host port setting.

    ``value`` is a port (``8000`` or ``"8000"``) or an inclusive range (``"8000-8001"``).
    Raises ``ValueError`` for anything else, for a range that runs backwards and outside of 1 to 65535.
    """
    first, dash, last = str(value).strip().partition("-")
    low, high = int(first), int(last if dash else first)
    if not 1 <= low <= high <= 65535:
        raise ValueError(f"{value!r} is not a port or range of ports between 1 and 65535")
    return list(range(low, high + 1))


def port_names(
    services: Mapping[str, Mapping[str, t.Any]], ssh_port: int = 22, domain: str | None = ""
) -> dict[str, str]:
    """The host TCP ports that are open to the internet, each with the name of its service.

    All others must be closed. The keys are text, since JSON has no other.
    """
    names: dict[int, str] = {}
    exposures = {name: _exposure(name, service) for name, service in services.items()}
    for name, exposure in exposures.items():
        if exposure == "published":
            names[_ports(name, services[name])[0]] = name
    if domain and set(exposures.values()) - {"internal"}:
        names |= {80: "caddy (http)", 443: "caddy (https)"}
    names[int(ssh_port)] = "ssh"
    return {str(port): names[port] for port in sorted(names)}


def upstreams(service: Mapping[str, t.Any]) -> list[str]:
    """The addresses of a service on the host: one ``address:port`` for each of its ports, none if it is internal."""
    exposure = _exposure("the service", service)
    if exposure == "internal":
        return []
    ports = _ports("the service", service)
    return [f"127.0.0.1:{port}" for port in (ports if exposure == "proxy" else ports[:1])]


def _exposure(name: str, service: Mapping[str, t.Any]) -> str:
    if service["exposure"] not in EXPOSURES:
        raise ValueError(
            f"openmates_exposure: {name} is {service['exposure']!r}, but must be one of {', '.join(EXPOSURES)}"
        )
    return service["exposure"]


def _ports(name: str, service: Mapping[str, t.Any]) -> list[int]:
    try:
        return host_ports(service["host_port"])
    except ValueError as error:
        raise ValueError(f"openmates_services: {name} is exposed, so it needs a host_port: {error}") from error
