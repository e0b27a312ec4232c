"""The tables of variables: name, type, default and description."""

from __future__ import annotations

from collections.abc import Iterator

from generator.role import Role
from generator.table import code, default, markup, table

COLUMNS = ("default", "description")


def type_of(option: dict) -> str:
    """An option's type, with the type of a list's elements and the values that are allowed."""
    kind = option.get("type", "str")
    if elements := option.get("elements"):
        kind += f" of {elements}"
    choices = ", ".join(code(value) for value in option.get("choices", []))
    return f"{kind}: {choices}" if choices else kind


def fields(name: str, option: dict) -> Iterator[tuple[str, dict]]:
    """The fields of a structured option, those inside them too, each as path."""
    for key, field in (option.get("options") or {}).items():
        path = f"{name}.{key}"
        yield path, field
        yield from fields(path, field)


def field_table(name: str, option: dict) -> str:
    """The table of an option's fields, empty if it has none."""
    rows = []
    for path, field in fields("", option):
        value = code(field["default"]) if "default" in field else "required" if field.get("required") else ""
        rows.append((code(path.removeprefix(".")), type_of(field), value, markup(field["description"])))
    return f"Fields of `{name}`:\n\n{table(('field', 'type', *COLUMNS), rows)}\n" if rows else ""


def variable_table(role: Role) -> str:
    """The variables of a role, those without a default first."""
    known = {variable.name: variable for variable in role.variables}
    rows = []
    for name in [*(name for name in role.options if name not in known), *known]:
        option = role.options.get(name, {"type": "", "description": known[name].comment if name in known else ""})
        missing = "required" if option.get("required") else "none"
        value = default(known[name].default, known[name].file) if name in known else missing
        rows.append((code(name), type_of(option), value, markup(option["description"])))
    return table(("variable", "type", *COLUMNS), rows)
