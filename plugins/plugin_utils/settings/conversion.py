# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert the value of a setting to the type that its specification declares."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import yaml
from ansible.module_utils.common.validation import check_type_bool, check_type_dict, check_type_int, check_type_list


class ConversionError(ValueError):
    """The value is not of the declared type; the message is the end of a sentence such as `must be ...`."""


def convert(spec: Mapping[str, t.Any], value: t.Any) -> t.Any:
    """The value as the type of ``spec``, which has the form of an option in a role's argument specification.

    Text is accepted for every type, because ``-e name=value`` and INI inventories give text only: numbers, true and
    false, and lists and mappings as JSON or YAML in one line.
    """
    if value is None:
        raise ConversionError("must not be empty; give it a value, or remove it for the default")
    kind = spec["type"]
    what, converter = _TYPES[kind]
    if kind == "str" and spec.get("no_log") and isinstance(value, int):
        raise ConversionError("must be text in quotation marks: unquoted digits are a number, which YAML may change")
    try:
        converted = converter(value)
        if kind == "list" and "elements" in spec:
            element = _TYPES[spec["elements"]][1]
            converted = [element(item) for item in converted]
    except (TypeError, ValueError, yaml.YAMLError):
        raise ConversionError(f"must be {what}{_elements(spec)}{_shown(spec, value)}{_hint(value)}") from None
    chosen = converted if kind == "list" else [converted]
    if "choices" in spec and not all(item in spec["choices"] for item in chosen):
        raise ConversionError(f"must be {_one_of(spec)}{_shown(spec, value)}")
    return converted


def _text(value: t.Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    return str(value)


def _list(value: t.Any) -> list:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = yaml.safe_load(value)
    elif value == "":
        return []
    return check_type_list(value)


def _dict(value: t.Any) -> dict:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = yaml.safe_load(value)
    elif value == "":
        return {}
    return check_type_dict(value)


def _integer(value: t.Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return check_type_int(value)


#: What a type is called in a message, and the function that raises TypeError or ValueError for anything else.
_TYPES: dict[str, tuple[str, t.Callable[[t.Any], t.Any]]] = {
    "bool": ("true or false", check_type_bool),
    "dict": ("a mapping", _dict),
    "int": ("a whole number", _integer),
    "list": ("a list", _list),
    "str": ("text in quotation marks", _text),
}


def _elements(spec: Mapping[str, t.Any]) -> str:
    return {"str": " of text", "dict": " of mappings"}.get(spec.get("elements", ""), "")


def _one_of(spec: Mapping[str, t.Any]) -> str:
    choices = ", ".join(spec["choices"])
    return f"a list of {choices}" if spec["type"] == "list" else f"one of {choices}"


def _hint(value: t.Any) -> str:
    begins = isinstance(value, str) and value.lstrip()[:1] in ("[", "{")
    return " (with -e name=value, a space ends the value)" if begins else ""


def _shown(spec: Mapping[str, t.Any], value: t.Any) -> str:
    """A value for a message. Lists and mappings can hold secrets that no specification knows."""
    mapping = "dict" in (spec["type"], spec.get("elements"))
    hidden = spec.get("no_log") or mapping or not isinstance(value, (str, int, float))
    return "" if hidden else f", not `{value}`"
