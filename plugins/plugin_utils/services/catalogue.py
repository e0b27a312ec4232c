# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merge what an operator sets of single services over the catalogue, and refuse what is no field of it."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.verb_arguments import nearest

SETTING = "openmates_services"
Services = Mapping[str, Mapping[str, t.Any]]


def field(service: str, name: str) -> str:
    """What a field is called in messages."""
    return f"{SETTING}.{service}.{name}"


def merged(catalogue: Services, overrides: Collection[Services], exposure: Mapping[str, str]) -> dict[str, dict]:
    """The catalogue with the fields of ``overrides``, the last of which counts most, and each service's exposure."""
    services = {}
    for name, fields in catalogue.items():
        services[name] = {**fields, "exposure": exposure.get(name, "internal")}
        for override in overrides:
            given = override.get(name)
            services[name] |= given if isinstance(given, Mapping) else {}
    return services


def problems(
    catalogue: Services, override: Mapping[str, t.Any], fields: Mapping[str, Mapping]
) -> Iterator[tuple[str, str]]:
    """The name of each part of an override that has no effect, and what to do about it.

    fields: the specification of each field. An operator may set those that are settable and that the service has.
    """
    for service, given in override.items():
        if service not in catalogue:
            yield f"{SETTING}.{service}", f"names no service.{_meant(service, catalogue)}"
        elif not isinstance(given, Mapping):
            yield f"{SETTING}.{service}", "must be a mapping, such as {memory: 1G}."
        else:
            possible = [name for name, spec in fields.items() if spec.get("settable") and name in catalogue[service]]
            for name in given:
                if name in possible:
                    continue
                if name in fields:
                    yield field(service, name), f"follows from the Compose files: set {', '.join(possible)} only."
                else:
                    yield field(service, name), f"is no field of a service.{_meant(name, possible)}"


def _meant(name: str, known: Collection[str]) -> str:
    meant = nearest(name, known)
    return f" Did you mean {meant}?" if meant else f" Use one of {', '.join(known)}."
