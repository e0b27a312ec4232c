# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as the Compose file has to hold them, so that a container gets what the inventory says."""

from __future__ import annotations

import json
import typing as t

#: What a double-quoted scalar of YAML has to escape: the characters that YAML calls not printable, and line breaks.
_ESCAPED = (
    *((0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFFE, 0xFFFF)),
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0x10000, 0x110000, 0x10000)),
)


def compose_value(value: t.Any) -> str:
    """A text, number or boolean as a YAML scalar that Compose reads back as the same text, without interpolation.

    JSON would not do: it writes a character beyond the first 65,536 as two surrogates, which YAML has not.
    """
    if isinstance(value, bool):
        value = str(value).lower()
    elif not isinstance(value, (str, int, float)):
        raise TypeError(f"a container's setting is text, a number, true or false, not {type(value).__name__}")
    return '"' + "".join(map(_character, str(value))) + '"'


def directus_value(value: t.Any, literal: bool = False) -> str:
    """The text that Directus's environment gives a setting, for ``compose_value``.

    Directus guesses the type of a text: 0123 stays one, 123 becomes a number, a comma makes a list. An operator writes
    what its documentation says, so a text is handed over as it is. ``literal`` is for values that are always text.
    A list or mapping is one for Directus, too.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "json:" + json.dumps(value, ensure_ascii=False)
    return f"string:{value}" if literal else str(value)


def _character(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character == "$":
        return "$$"
    code = ord(character)
    if any(first <= code <= last for first, last in _ESCAPED):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character
