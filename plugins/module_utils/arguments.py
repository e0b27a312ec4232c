# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short forms for the argument specs of modules with many nested options. `TEXT | {"default": "x"}` adds to one."""

from __future__ import annotations

import typing as t

TEXT: dict[str, t.Any] = {"type": "str"}
PATH: dict[str, t.Any] = {"type": "path"}
FLAG: dict[str, t.Any] = {"type": "bool"}
NUMBER: dict[str, t.Any] = {"type": "int"}
MAPPING: dict[str, t.Any] = {"type": "dict"}
WORDS: dict[str, t.Any] = {"type": "list", "elements": "str"}
REQUIRED = {"required": True}


def one_of(*choices: str) -> dict[str, t.Any]:
    """One of these words."""
    return {"type": "str", "choices": list(choices)}


def several(**options: dict[str, t.Any]) -> dict[str, t.Any]:
    """A list of mappings with these options, empty by default."""
    return {"type": "list", "elements": "dict", "default": [], "options": options}
