# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems of the arguments that an operator passed to a playbook."""

from __future__ import annotations

import difflib
import re
import typing as t
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ansible.module_utils.common.validation import check_type_bool, check_type_dict, check_type_int, check_type_list

#: The name of each type in messages, and the check that raises TypeError for other values.
TYPES: dict[str, tuple[str, t.Callable[[t.Any], t.Any]]] = {
    "bool": ("true or false", check_type_bool),
    "dict": ("a mapping, best given in a file with -e @file", check_type_dict),
    "int": ("a whole number", check_type_int),
    "list": ("a list", check_type_list),
    "str": ("text", str),
    "file": ("the path of a file on this machine", str),
}
#: An argument's description, as a playbook declares it. The options of the module check_arguments document them.
SPEC = {
    "description": {"type": "str", "required": True},
    "type": {"type": "str", "default": "str", "choices": list(TYPES)},
    "required": {"type": "bool", "default": False},
    "choices": {"type": "list", "elements": "str", "default": []},
}
#: Tags with a meaning of their own in Ansible, and how those begin that Molecule always skips.
SPECIAL_TAGS = ("all", "always", "never", "tagged", "untagged")
MOLECULE_TAGS = ("notest", "molecule-")
#: Minimum similarity of a misspelt argument.
ALIKE = 0.7
_TOP_LEVEL_KEY = re.compile(r"^([a-z_]\w*):", re.MULTILINE)


def names_in(files: Collection[Path]) -> set[str]:
    """The names of the variables that these YAML files set."""
    return {name for file in files for name in _TOP_LEVEL_KEY.findall(file.read_text(encoding="utf-8"))}


def nearest(name: str, declared: Collection[str]) -> str:
    """The argument that a name is probably a misspelling of, or an empty string."""
    alike = {argument: _likeness(name, argument) for argument in declared}
    best = max(alike, key=lambda argument: alike[argument], default="")
    return best if best and alike[best] >= ALIKE else ""


def _likeness(name: str, argument: str) -> float:
    """Similarity from 0 to 1; a name with only words of the argument, or with all of them, counts as equal."""
    words, others = set(name.split("_")), set(argument.split("_"))
    if words <= others or others <= words:
        return 1 - abs(len(others) - len(words)) / 100
    # A common first word such as `openmates` or `vault` makes any two names similar.
    if name.split("_")[0] == argument.split("_")[0]:
        name, argument = name.partition("_")[2], argument.partition("_")[2]
    return difflib.SequenceMatcher(None, name, argument).ratio()


def problems(
    declared: Mapping[str, Mapping[str, t.Any]],
    values: Mapping[str, t.Any],
    given: Collection[str],
    known: Collection[str],
) -> Iterator[str]:
    """One sentence per problem.

    declared: the playbook's arguments, each as SPEC has it.
    values: the arguments that have a value, wherever it was set.
    given: names of all variables on the command line.
    known: names of the variables that something other than this playbook reads.
    """
    for name in sorted(given):
        if name not in declared and name not in known and not name.startswith("ansible_"):
            meant = nearest(name, declared)
            if meant:
                yield f"{name} is not an argument of this playbook. Did you mean {meant}?"
    for name, argument in declared.items():
        value = values.get(name)
        if value is None or value in ("", [], {}):
            if argument["required"]:
                yield f"{name} is missing: {argument['description']}."
            continue
        problem = _problem_of_value(argument, value)
        if problem:
            yield f"{name} {problem}"


def tag_problems(options: Mapping[str, t.Any], tags: Collection[str]) -> list[str]:
    """One sentence per tag on the command line that no task has: such a run does nothing, or does what it should not.

    options: Ansible's command-line options. tags: all tags of the playbook's tasks.
    """
    known = set(tags) - set(SPECIAL_TAGS)
    given = [(option, tag) for option in ("tags", "skip_tags") for tag in options.get(option) or ()]
    return [
        f"--{option.replace('_', '-')} {tag}: no task has this tag. {_tags_hint(tag, known)}"
        for option, tag in given
        if tag not in {*known, *SPECIAL_TAGS} and not tag.startswith(MOLECULE_TAGS)
    ]


def _tags_hint(tag: str, known: Collection[str]) -> str:
    if not known:
        return "This playbook has none: run it without the option."
    meant = next(iter(difflib.get_close_matches(tag, known, n=1)), "")
    return f"Did you mean {meant}?" if meant else f"The tags are {', '.join(sorted(known))}."


def _problem_of_value(argument: Mapping[str, t.Any], value: t.Any) -> str:
    # A value may be secret, so messages show only values of types that hold no secret.
    what, check = TYPES[argument["type"]]
    try:
        check(value)
    except (TypeError, ValueError):
        return f"must be {what}" + (f", not `{value}`." if argument["type"] in ("bool", "int") else ".")
    if argument["choices"] and value not in argument["choices"]:
        return f"must be one of {', '.join(argument['choices'])}, not `{value}`."
    if argument["type"] == "file" and not Path(value).expanduser().is_file():
        return f"names a file that does not exist on this machine: {value}."
    return ""


def explanation(
    playbook: str, wrong: Collection[str], declared: Mapping[str, Mapping[str, t.Any]], example: str
) -> str:
    """The problems, the playbook's arguments, and ``example``, a valid command."""
    lines = [f"{playbook} was not started, because of its arguments:", *(f"- {problem}" for problem in wrong)]
    if declared:
        width = max(map(len, declared))
        lines += ["", "Its arguments:"]
        for name, argument in declared.items():
            need = "required" if argument["required"] else "optional"
            choices = f" One of {', '.join(argument['choices'])}." if argument["choices"] else ""
            lines.append(f"  {name.ljust(width)}  {need}, {argument['type']}: {argument['description']}.{choices}")
    return "\n".join([*lines, "", f"Example: {example}"])
