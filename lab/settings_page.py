#!/usr/bin/env python3
"""Writes docs/settings.md, the reference of all settings, from the role `settings`. Run it after a change there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLE = ROOT / "roles/settings"
PAGE = ROOT / "docs/settings.md"
HEAD = """\
# Settings

Every setting of an operator. Written by `lab/settings_page.py` from `roles/settings`; do not edit this page. Where to
set them: [roles/settings](../roles/settings/README.md).
"""
SECTION = re.compile(r"^# -{10,} (.+)$")
ENTRY = re.compile(r"^(openmates_\w+):")
COLUMNS = "| setting | type | default | description |\n|---|---|---|---|\n"
FIELDS = """
Fields that may be set, of a service that has them:

| field | type | description |
|---|---|---|
"""
LONGEST = 60  # characters of a default in the table


@dataclass
class Setting:
    """One setting, as a defaults file has it."""

    name: str
    section: str
    comment: str
    default: object


def settings(text: str) -> Iterator[Setting]:
    """The settings of a defaults file in its order. A comment belongs to the entry right below it."""
    values = yaml.safe_load(text)
    section, comment = "", []
    for line in text.splitlines():
        if found := SECTION.match(line):
            section, comment = found[1], []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif found := ENTRY.match(line):
            yield Setting(found[1], section, " ".join(comment), values[found[1]])
            comment = []
        elif not line:
            comment = []


def default_of(value: object) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    if isinstance(value, dict) and len(text) > LONGEST:
        return "[see there](../roles/settings/defaults/main)"
    if "{{" in text or "{%" in text:
        return "follows from other settings"
    return f"`{text}`" if len(text) <= LONGEST else "[see there](../roles/settings/defaults/main)"


def page() -> str:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    known = [
        setting for file in sorted((ROLE / "defaults/main").glob("*.yml")) for setting in settings(file.read_text())
    ]
    parts, section = [HEAD], ""
    required = [name for name in specs if name not in {setting.name for setting in known}]
    rows = [(name, "required", "no default", specs[name]["description"]) for name in required]
    rows += [(setting.name, setting.section, default_of(setting.default), setting.comment) for setting in known]
    for name, title, default, comment in rows:
        if title != section:
            section = title
            parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n{COLUMNS}")
        text = (comment or specs[name]["description"]).replace("|", "\\|")
        parts.append(f"| `{name}` | {specs[name]['type']} | {default} | {text} |\n")
    parts.append(FIELDS)
    for name, field in yaml.safe_load((ROLE / "meta/service.yml").read_text()).items():
        if field.get("settable"):
            parts.append(f"| `{name}` | {field['type']} | {field['description']} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
