"""The generated part of each role's README; the text around it is written by hand."""

from __future__ import annotations

import re
from pathlib import Path

from generator.options import variable_table
from generator.role import Role, roles

BEGIN = "<!-- BEGIN variables: written by docs/generate.py -->"
END = "<!-- END variables -->"
PART = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.DOTALL)
DEFAULTS = "defaults/main.yml"


def part(role: Role) -> str:
    return f"""\
{BEGIN}

## Variables

[{DEFAULTS}]({DEFAULTS}) says when to change each.

{variable_table(role)}

{END}
"""


def readme(role: Role) -> str:
    """The README with its part renewed. Without the two markers it is an error."""
    path = role.folder / "README.md"
    text, found = PART.subn(lambda _: part(role), path.read_text())
    if found != 1:
        raise ValueError(f"{path}: the lines '{BEGIN}' and '{END}' have to be there once")
    return text


def readmes(root: Path) -> dict[Path, str]:
    """Each role's README. The settings have a page of their own."""
    return {Path("roles", role.name, "README.md"): readme(role) for role in roles(root) if role.name != "settings"}
