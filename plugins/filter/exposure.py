# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive open firewall ports, Caddy upstreams and image addresses from the exposure table."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

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


def _mode(service: str, exposure: Mapping) -> str:
    mode = exposure.get(service)
    if mode not in EXPOSURES:
        raise AnsibleFilterError(
            f"openmates_exposure: {service!r} is {mode!r}, but must be one of {', '.join(EXPOSURES)}"
        )
    return mode


def _ports(service: str, ports: Mapping) -> tuple[list[int], int]:
    """The host ports and the container port of a service that is not internal."""
    try:
        entry = ports[service]
        return host_ports(entry["host"]), int(entry["container"])
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(
            f"openmates_ports: {service!r} is exposed, so it needs a host and a container port: {error}"
        ) from error


def port_names(exposure: Mapping, ports: Mapping, ssh_port: int = 22, domain: str | None = "") -> dict[str, str]:
    """The host TCP ports that are open to the internet, each with the name of its service.

    The keys are text, since JSON has no other.
    """
    names: dict[int, str] = {}
    used = [service for service in exposure if _mode(service, exposure) != "internal"]
    for service in used:
        if exposure[service] == "published":
            names[_ports(service, ports)[0][0]] = service
    if domain and used:
        names |= {80: "caddy (http)", 443: "caddy (https)"}
    names[int(ssh_port)] = "ssh"
    return {str(port): names[port] for port in sorted(names)}


def open_tcp_ports(exposure: Mapping, ports: Mapping, ssh_port: int = 22, domain: str | None = "") -> list[int]:
    """The host TCP ports that must be open from outside, sorted; all others must be closed."""
    return [int(port) for port in port_names(exposure, ports, ssh_port, domain)]


def upstreams(service: str, exposure: Mapping, ports: Mapping) -> list[str]:
    """The addresses of a service on the host: one ``address:port`` for each of its ports, none if it is internal."""
    mode = _mode(service, exposure)
    if mode == "internal":
        return []
    host, _container = _ports(service, ports)
    return [f"127.0.0.1:{port}" for port in (host if mode == "proxy" else host[:1])]


def image(reference: str, registry: str | None = "") -> str:
    """The same image at another registry: same path, tag and digest. No registry leaves the reference as it is."""
    target = (registry or "").strip().rstrip("/")
    if not target or reference.startswith(f"{target}/"):
        return reference
    if "://" in target:
        raise AnsibleFilterError(f"openmates_registry: {registry!r} must be a host name without https://")
    first, slash, rest = reference.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    path = rest if has_host else reference
    # References to Docker Hub's own images leave out their namespace.
    if "/" not in path and (not has_host or first in ("docker.io", "index.docker.io")):
        path = f"library/{path}"
    return f"{target}/{path}"


class FilterModule:
    """Filters of openmates.server about exposure and images."""

    def filters(self) -> dict:
        return {
            "image": image,
            "open_tcp_ports": open_tcp_ports,
            "port_names": port_names,
            "upstreams": upstreams,
        }
