# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect what an operator sets of openmates_services, from every place that sets something of it."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable, Mapping

from ansible.errors import AnsibleError
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import SETTING, field
from ansible_collections.openmates.server.plugins.plugin_utils.settings.conversion import ConversionError, convert
from ansible_collections.openmates.server.plugins.plugin_utils.settings.inventory import place

SPEC = {"type": "dict"}


@dataclasses.dataclass
class Overrides:
    """The values, the place of each field by its full name, and what is wrong with a value as a whole."""

    values: list[Mapping[str, t.Any]] = dataclasses.field(default_factory=list)
    places: dict[str, str] = dataclasses.field(default_factory=dict)
    wrong: dict[str, str] = dataclasses.field(default_factory=dict)


def collect(given: Iterable[tuple[t.Any, str]], templar: t.Any) -> Overrides:
    """``given``: each value of openmates_services with its place; the last counts most. Text is parsed."""
    found = Overrides()
    for value, where in given:
        found.places[SETTING] = where
        try:
            services = convert(SPEC, templar.template(value) if isinstance(value, str) else value)
            services = {
                name: templar.template(fields) if isinstance(fields, str) else fields
                for name, fields in services.items()
            }
        except ConversionError as error:
            found.wrong[SETTING] = str(error)
            continue
        except AnsibleError as error:
            found.wrong[SETTING] = f"cannot be evaluated: {error}"
            continue
        found.values.append(services)
        for service, fields in services.items():
            found.places[f"{SETTING}.{service}"] = place(service, otherwise=where)
            for name, content in fields.items() if isinstance(fields, Mapping) else ():
                found.places[field(service, name)] = place(name, content, otherwise=where)
    return found


def in_order(chosen: t.Any, default: t.Any, given: list[tuple[t.Any, str]]) -> list[tuple[t.Any, str]]:
    """``given`` with the value that Ansible chose, which may come from a place that no inventory knows.

    Raises ValueError if Ansible's order of places is another one: which value counts most is not known then.
    """
    values = [value for value, _ in given]
    if chosen not in (values or [default]):
        return [*given, (chosen, place(chosen, otherwise="the playbook"))]
    if values and chosen != values[-1]:
        raise ValueError(" and ".join(dict.fromkeys(where for _, where in given)))
    return given
