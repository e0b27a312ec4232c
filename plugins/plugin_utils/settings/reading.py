# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the settings of a host from its variables: worked out, validated and converted."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import jinja2
import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.template import is_trusted_as_template
from ansible_collections.openmates.server.plugins.plugin_utils.services import catalogue
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import SETTING as SERVICES
from ansible_collections.openmates.server.plugins.plugin_utils.settings.conversion import ConversionError, convert
from ansible_collections.openmates.server.plugins.plugin_utils.settings.names import PREFIX

DEFAULTS = "roles/settings/defaults/main"
SPECIFICATIONS = "roles/settings/meta/argument_specs.yml"
SERVICE_SPECIFICATION = "roles/settings/meta/service.yml"
EXPOSURE = "openmates_exposure"
#: About a secret that Ansible evaluates. Ansible's own message would quote a part of it.
TEMPLATE = "it contains {{, {% or {#, which begin a template"
LITERALLY = "put !unsafe before a text with {{, {% or {# that is meant literally"
_USER = re.compile(r"(\d+)(:\d+)?", re.ASCII)


def specifications(collection: Path) -> dict[str, dict]:
    """Type, default and description of every setting, by name; those of a service's fields are in its ``fields``."""
    options = _load(collection / SPECIFICATIONS)["argument_specs"]["main"]["options"]
    options[SERVICES]["fields"] = _load(collection / SERVICE_SPECIFICATION)
    return options


def defaults(collection: Path, loader: t.Any) -> dict[str, t.Any]:
    """The default of every setting that has one, by name, not evaluated. ``loader`` is Ansible's."""
    found: dict[str, t.Any] = {}
    for file in sorted((collection / DEFAULTS).glob("*.yml")):
        found |= loader.load_from_file(str(file), trusted_as_template=True)
    return found


def _load(file: Path) -> t.Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506


@dataclasses.dataclass
class Settings:
    """What reading gave: the values by full name, why others have none, and the names of those that are wrong."""

    values: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    unresolved: dict[str, str] = dataclasses.field(default_factory=dict)
    wrong: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def short(self) -> dict[str, t.Any]:
        """The values by their name without the prefix, as playbooks and templates read them."""
        return {name.removeprefix(PREFIX): value for name, value in self.values.items()}


def read(
    specs: Mapping[str, Mapping],
    variables: Mapping[str, t.Any],
    given: Collection[str],
    templar: t.Any,
    services: catalogue.Services,
    overrides: Collection[catalogue.Services] = (),
) -> Settings:
    """The settings among ``variables``.

    given: the names of those that an operator set, those of services' fields too.
    templar: Ansible's; its variables are not changed.
    services: the default of openmates_services, not evaluated. overrides: what an operator set of it; the last counts
    most.
    """
    result, scope = Settings(), dict(variables)
    templar = templar.copy_with_new_env(available_variables=scope)

    def evaluate(name: str, spec: Mapping, value: t.Any, into: dict, key: str) -> None:
        if spec.get("no_log") and any(map(_is_chance_template, _texts(value))):
            result.wrong[name] = f"would lose a part of its value: {LITERALLY}"
            return
        try:
            into[key] = convert(spec, templar.template(value))
        except AnsibleUndefinedVariable as error:
            if name in given:  # a default refers to other settings only, and one of those is missing
                # Ansible's message quotes a part of the value.
                result.unresolved[name] = TEMPLATE if spec.get("no_log") else str(error)
        except AnsibleError as error:
            # Ansible's message quotes the value.
            why = LITERALLY if spec.get("no_log") else str(error)
            result.wrong[name] = f"cannot be evaluated: {why}"
        except ConversionError as error:
            result.wrong[name] = str(error)

    # Not evaluated yet, so that every setting can refer to it.
    exposure: dict[str, t.Any] = {}
    evaluate(EXPOSURE, {"type": "dict"}, variables.get(EXPOSURE, {}), exposure, EXPOSURE)
    result.wrong.pop(EXPOSURE, None)  # preflight reports it: it is no setting
    fields = specs[SERVICES]["fields"]
    for override in overrides:
        result.wrong |= catalogue.problems(services, override, fields)
    scope[SERVICES] = catalogue.merged(services, overrides, exposure.get(EXPOSURE, {}))

    # What an operator set comes first, so that a default that refers to it finds the converted value.
    for name in sorted(specs, key=lambda name: (name not in given or name == SERVICES, name != SERVICES)):
        if name == SERVICES:
            scope[name] = result.values[name] = _services(fields, scope[name], evaluate, result.wrong)
        elif name in variables:
            evaluate(name, specs[name], variables[name], result.values, name)
            scope |= {name: result.values[name]} if name in result.values else {}
    if any(name in given for name in result.wrong):  # a default that is wrong refers to one of them
        result.wrong = {name: why for name, why in result.wrong.items() if name in given}
    return result


def _texts(value: t.Any) -> Iterator[str]:
    """The texts in a value that is not evaluated."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for item in dict(value).values() for text in _texts(item))
    elif isinstance(value, list):
        yield from (text for item in list(value) for text in _texts(item))


def _is_chance_template(text: str) -> bool:
    """Whether a text is a template that refers to nothing, as a random password may be: `{{7}}`, `{#...#}`."""
    if not ("{{" in text or "{%" in text or "{#" in text) or "{% raw" in text or not is_trusted_as_template(text):
        return False
    try:
        found = jinja2.Environment(autoescape=False).parse(text)  # noqa: S701 - nothing is rendered
    except jinja2.TemplateSyntaxError:
        return False  # Ansible's templating refuses it
    return found.find((jinja2.nodes.Name, jinja2.nodes.Call)) is None


def _services(
    fields: Mapping[str, Mapping], services: catalogue.Services, evaluate: t.Callable, wrong: dict[str, str]
) -> dict[str, dict[str, t.Any]]:
    """All services with all their fields. A field that cannot be evaluated is left out, so that its readers fail."""
    found: dict[str, dict[str, t.Any]] = {}
    for service, values in services.items():
        one = found[service] = {"exposure": values["exposure"]}
        for field, spec in fields.items():
            name = catalogue.field(service, field)
            if field in values:
                evaluate(name, spec, values[field], one, field)
            elif spec.get("required"):
                wrong[name] = "is missing"
            else:
                one[field] = spec["default"]
        if "user" in one:
            user = _USER.fullmatch(one["user"])
            if not user:
                wrong[catalogue.field(service, "user")] = "must be a user by number, as uid or uid:gid"
            elif not user[2]:
                one["user"] = f"{user[1]}:{user[1]}"
    return found
