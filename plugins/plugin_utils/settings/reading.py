# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the settings of a host from its variables: worked out, validated and converted."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.openmates.server.plugins.plugin_utils.settings.conversion import ConversionError, convert
from ansible_collections.openmates.server.plugins.plugin_utils.settings.names import PREFIX

DEFAULTS = "roles/settings/defaults/main.yml"
SPECIFICATIONS = "roles/settings/meta/argument_specs.yml"


def specifications(collection: Path) -> dict[str, dict]:
    """Type, default and description of every setting, by name."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded = yaml.load((collection / SPECIFICATIONS).read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    return loaded["argument_specs"]["main"]["options"]


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
    specs: Mapping[str, Mapping], variables: Mapping[str, t.Any], given: Collection[str], templar: t.Any
) -> Settings:
    """The settings among ``variables``. ``given``: the names of those that an operator set.

    ``templar`` is Ansible's; its variables are not changed.
    """
    result, scope = Settings(), dict(variables)
    templar = templar.copy_with_new_env(available_variables=scope)
    # What an operator set comes first, so that a default that refers to it finds the converted value.
    for name in sorted(specs, key=lambda name: name not in given):
        if name not in variables:
            continue
        try:
            result.values[name] = scope[name] = convert(specs[name], templar.template(variables[name]))
        except AnsibleUndefinedVariable as error:
            if name in given:  # a default refers to other settings only, and one of those is missing
                result.unresolved[name] = str(error)
        except AnsibleError as error:
            result.wrong[name] = f"cannot be evaluated: {error}"
        except ConversionError as error:
            result.wrong[name] = str(error)
    if any(name in given for name in result.wrong):  # a default that is wrong refers to one of them
        result.wrong = {name: why for name, why in result.wrong.items() if name in given}
    return result
