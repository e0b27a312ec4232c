"""Pages of the collection's modules, filters and lookups, from ansible-doc."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from generator.options import type_of
from generator.table import code, markup, table

COLLECTION = "openmates.server"
KINDS = {"module": "Modules", "filter": "Filters", "lookup": "Lookups"}


def prose(text: str | list[str], between: str = " ") -> str:
    lines = [text] if isinstance(text, str) else text
    return markup(between.join(lines))


def ansible_doc(*arguments: str) -> dict:
    """What ansible-doc prints as JSON."""
    done = subprocess.run(["ansible-doc", "--json", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def rows(options: dict, inner: str, path: str = "") -> Iterator[tuple[str, ...]]:
    """The rows of options or return values, with the key `inner` for what is inside one."""
    for name, option in options.items():
        value = code(json.dumps(option["default"])) if option.get("default") is not None else ""
        when = "required" if option.get("required") else option.get("returned", value)
        yield code(path + name), type_of(option), when, prose(option["description"])
        yield from rows(option.get(inner) or {}, inner, f"{path}{name}.")


def page(name: str, documentation: dict) -> str:
    """The page of one plugin."""
    doc = documentation["doc"]
    parts = [f"# {name}", f"{markup(doc['short_description'])}.", prose(doc["description"], "\n\n")]
    if requirements := doc.get("requirements"):
        parts.append("Needs " + markup(", ".join(requirements)) + ".")
    if options := doc.get("options"):
        parts += ["## Options", table(("option", "type", "default", "description"), rows(options, "suboptions"))]
    if attributes := doc.get("attributes"):
        lines = [(code(key), item["support"], prose(item["description"])) for key, item in attributes.items()]
        parts += ["## Attributes", table(("attribute", "support", "description"), lines)]
    if examples := (documentation.get("examples") or "").strip():
        parts += ["## Examples", f"```yaml\n{examples}\n```"]
    if returned := documentation.get("return"):
        parts += ["## Return values", table(("value", "type", "returned", "description"), rows(returned, "contains"))]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """The text of each page by its path."""
    found = {}
    for kind in KINDS:
        names = sorted(ansible_doc("--list", "--type", kind, COLLECTION))
        for name, documentation in ansible_doc("--type", kind, *names).items():
            short = name.removeprefix(f"{COLLECTION}.")
            found[f"plugins/{kind}/{short}.md"] = page(short, documentation)
    return found
