"""docs/hardening.md: each item with its value, reason and exception, from the data of the roles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from generator.role import Role, roles
from generator.table import code, codes, table

TEMPLATES = Path(__file__).parent / "templates"
KEY = re.compile(r"-F key=(\S+)")


class Page:
    """What the template calls: each method writes one table, or what stands in its place."""

    def __init__(self, root: Path) -> None:
        self.roles = {role.name: role for role in roles(root)}
        self.jinja = Environment(undefined=StrictUndefined)  # noqa: S701 - Markdown, not HTML
        self.excepted: set[str] = set()

    def role(self, name: str) -> Role:
        return self.roles[name]

    def data(self, variable: str) -> list | dict:
        """The value of a role's variable."""
        return self.roles[variable.partition("_")[0]].data[variable]

    def measures(self, role: str, key: str = "measures") -> str:
        """Measures that are written in meta/hardening.yml, with the values of the role's variables in them."""
        items = self.role(role).hardening[key]
        columns = ["what", "why"] + ["where"] * any("where" in item for item in items)
        rows = [[self.rendered(role, item[column]) for column in columns] for item in items]
        return table(columns, rows)

    def rendered(self, role: str, text: str) -> str:
        return self.jinja.from_string(text).render(self.role(role).data)

    def packages(self, *variables: str) -> str:
        items = [item for variable in variables for item in self.data(variable)]
        return table(("package", "why"), [(code(item["name"]), item["reason"]) for item in items])

    def exceptions(self, names: Iterable[str]) -> str:
        """When to do without the items, from meta/hardening.yml."""
        known = self.role("hardening").hardening["exceptions"]
        found = [name for name in names if name in known]
        self.excepted.update(found)
        return " ".join(known[name] for name in found)

    def kernel(self) -> str:
        rows = [
            (code(item["name"]), code(item["value"]), item["reason"], self.exceptions([item["name"]]))
            for item in self.data("hardening_sysctl")
        ]
        return table(("setting", "value", "why", "exception"), rows)

    def modules(self) -> str:
        rows = [
            (codes(item["names"]), item["reason"], self.exceptions(item["names"]))
            for item in self.data("hardening_blocked_modules")
        ]
        return table(("modules", "why", "exception"), rows)

    def audit(self) -> str:
        rows = []
        for item in self.data("hardening_audit_rules"):
            keys = {key for rule in item["rules"] for key in KEY.findall(rule)}
            rows.append((item["reason"], codes(sorted(keys))))
        return table(("recorded", "keys"), rows)

    def watched(self) -> str:
        rows = [
            (code(item["path"]), item["reason"], codes(item.get("except", [])))
            for item in self.data("hardening_watched")
        ]
        return table(("compared every night", "why", "except"), rows)

    def lines(self) -> str:
        rows = [(code(item["path"]), code(item["line"]), item["reason"]) for item in self.data("hardening_lines")]
        return table(("file", "line", "why"), rows)

    def permissions(self) -> str:
        rows = []
        for item in self.data("hardening_permissions"):
            owner = "".join(f" {kind} {item[kind]}" for kind in ("owner", "group") if kind in item)
            rows.append((code(item["path"]), f"{code(item['mode'])}{owner}", item["reason"]))
        return table(("path", "permissions", "why"), rows)

    def usb(self) -> str:
        rows = [(code(item["interface"]), item["reason"]) for item in self.data("hardening_usb_allowed")]
        return table(("interface", "allowed"), rows)

    def sshd(self) -> str:
        """A code block per group of options. As in the drop-in, an option without a value is left out."""
        parts = []
        for group in self.data("ssh_lines"):
            options = {name: self.rendered("ssh", value).strip() for name, value in group["options"].items()}
            lines = "\n".join(f"{name} {value}" for name, value in options.items() if value)
            parts.append(f"{group['why'].strip()}:\n\n```text\n{lines}\n```")
        return "\n\n".join(parts)

    def lynis(self) -> str:
        return table(("suggestion", "why not"), self.role("hardening").hardening["lynis"].items())


def page(root: Path) -> str:
    tables = Page(root)
    # The templates are Markdown.
    jinja = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    text = jinja.get_template("hardening.md.j2").render(page=tables)
    if unknown := set(tables.role("hardening").hardening["exceptions"]) - tables.excepted:
        raise ValueError(f"roles/hardening/meta/hardening.yml has exceptions of what is not there: {sorted(unknown)}")
    return text
