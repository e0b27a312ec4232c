"""What a role's files declare: its variables with defaults and comments, its options, what it hardens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

SECTION = re.compile(r"^# -{10,} (.+)$")
ENTRY = re.compile(r"^([a-z]\w*):")


@dataclass(frozen=True)
class Variable:
    """One variable, as the defaults file has it."""

    name: str
    section: str
    comment: str
    default: object
    file: str = "defaults/main.yml"  # below the role's folder


def variables(text: str, file: str = "defaults/main.yml") -> Iterator[Variable]:
    """The variables of a defaults file in its order. A comment belongs to the entry right below it."""
    values = yaml.safe_load(text)
    section, comment = "", []
    for line in text.splitlines():
        if found := SECTION.match(line):
            section, comment = found[1], []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif found := ENTRY.match(line):
            yield Variable(found[1], section, " ".join(comment), values[found[1]], file)
            comment = []
        elif not line:
            comment = []


class Role:
    """A role of the project, read from its folder."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.folder = root / "roles" / name

    def load(self, name: str) -> dict:
        """The content of a YAML file of the role, empty if there is none."""
        path = self.folder / name
        return yaml.safe_load(path.read_text()) if path.exists() else {}

    def files(self, name: str) -> list[str]:
        """The files that Ansible reads as defaults/main or vars/main: one, or all of a directory."""
        found = [self.folder / f"{name}.yml", *sorted((self.folder / name).glob("*.yml"))]
        return [str(path.relative_to(self.folder)) for path in found if path.exists()]

    @cached_property
    def variables(self) -> list[Variable]:
        files = self.files("defaults/main")
        return [variable for file in files for variable in variables((self.folder / file).read_text(), file)]

    @cached_property
    def options(self) -> dict[str, dict]:
        """The options in the argument specs of all entry points."""
        entries = self.load("meta/argument_specs.yml").get("argument_specs", {}).values()
        return {name: option for entry in entries for name, option in entry.get("options", {}).items()}

    @cached_property
    def data(self) -> dict:
        """Defaults and variables together, unrendered."""
        files = [*self.files("defaults/main"), *self.files("vars/main")]
        return {name: value for file in files for name, value in self.load(file).items()}

    @cached_property
    def hardening(self) -> dict:
        """meta/hardening.yml: what the role hardens apart from the lists in its data, and exceptions to these."""
        return self.load("meta/hardening.yml")


def roles(root: Path) -> list[Role]:
    """Every role, by name."""
    return [Role(root, path.parent.name) for path in sorted(root.glob("roles/*/README.md"))]
