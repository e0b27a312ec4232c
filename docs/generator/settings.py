"""docs/settings.md, the reference of all settings."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from generator.options import COLUMNS, field_table, type_of
from generator.role import Role
from generator.table import code, default, table

HEAD = """\
# Settings

Every setting of an operator. Written by `docs/generate.py` from `roles/settings`; do not edit this page. Where to set
them: [roles/settings](../roles/settings/README.md).
"""
FOLDER = "../roles/settings"
FIELDS = """
Fields that may be set, of a service that has them:

"""


def page(root: Path) -> str:
    role = Role(root, "settings")
    known = {variable.name: variable for variable in role.variables}
    entries = [(name, "required", "no default", "") for name in role.options if name not in known]
    entries += [
        (name, item.section, default(item.default, f"{FOLDER}/{item.file}"), item.comment)
        for name, item in known.items()
    ]
    parts = [HEAD]
    for section, group in groupby(entries, key=lambda entry: entry[1]):
        rows, details = [], []
        for name, _, value, comment in group:
            option = role.options[name]
            rows.append((code(name), type_of(option), value, comment or option["description"]))
            details.append(field_table(name, option))
        title = section[:1].upper() + section[1:]
        parts.append(f"\n## {title}\n\n{table(('setting', 'type', *COLUMNS), rows)}\n")
        parts += [f"\n{detail}" for detail in details if detail]
    return "".join(parts) + service_fields(role)


def service_fields(role: Role) -> str:
    """The fields of openmates_services, which have a specification of their own."""
    known = role.load("meta/service.yml").items()
    rows = [(code(name), type_of(field), field["description"]) for name, field in known if field.get("settable")]
    return FIELDS + table(("field", "type", "description"), rows) + "\n" if rows else ""
