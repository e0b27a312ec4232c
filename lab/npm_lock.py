#!/usr/bin/env python3
"""Reduces a package-lock.json as npm writes it to what `npm ci` needs on the lab's processors, a line per package.

Usage: lab/npm_lock.py FOLDER...

After `npm install --package-lock-only` in a recipe's folder. The field `openmatesLab.without` of the folder's
package.json names packages that nothing in the image loads: they and what only they need are left out. Everything
that remains keeps its hash, and no line names a registry.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

#: What `npm ci` reads: which package, its hash, what it needs, and whether it is for this machine.
KEPT = (
    *("name", "version", "integrity", "optional", "peer", "os", "cpu", "libc"),
    *("dependencies", "optionalDependencies", "peerDependencies", "peerDependenciesMeta"),
)
#: The machines that a lab runs on.
MACHINES = {"os": {"linux"}, "cpu": {"x64", "arm64"}, "libc": {"glibc"}}
EDGES = ("dependencies", "optionalDependencies", "peerDependencies")


def for_the_lab(package: dict) -> bool:
    """Whether a package is for one of the machines; npm writes `!win32` for all but one."""

    def allows(conditions: list[str], ours: set[str]) -> bool:
        named = {condition for condition in conditions if not condition.startswith("!")}
        refused = {condition[1:] for condition in conditions if condition.startswith("!")}
        return bool((named & ours) if named else (ours - refused))

    return all(allows(package[field], ours) for field, ours in MACHINES.items() if package.get(field))


def resolve(packages: dict[str, dict], path: str, name: str) -> str | None:
    """Where Node finds a package for the one at this path: in its own node_modules or in one further up."""
    while True:
        candidate = f"{path}/node_modules/{name}" if path else f"node_modules/{name}"
        if candidate in packages:
            return candidate
        if not path:
            return None
        path = path.rpartition("/node_modules/")[0] if "/node_modules/" in path else ""


def reachable(packages: dict[str, dict]) -> Iterator[str]:
    """The paths of the packages that the project needs, directly or not."""
    waiting, seen = [""], {""}
    while waiting:
        path = waiting.pop()
        yield path
        for field in EDGES:
            for name in packages[path].get(field, {}):
                found = resolve(packages, path, name)
                if found is not None and found not in seen:
                    seen.add(found)
                    waiting.append(found)


def reduced(lock: dict, without: set[str]) -> dict:
    """The lock without other machines' packages, the named ones, what only they need, and fields that are not read."""
    packages = {}
    for path, package in lock["packages"].items():
        name = path.rpartition("node_modules/")[2]
        if name.partition("/")[0] in without or name in without or not for_the_lab(package):
            continue
        packages[path] = {field: package[field] for field in KEPT if field in package}
    for path, package in packages.items():
        for field in EDGES:
            if field in package:
                package[field] = {
                    name: version
                    for name, version in package[field].items()
                    if resolve(packages, path, name) is not None
                }
        package["peerDependenciesMeta"] = {
            name: meta for name, meta in package.get("peerDependenciesMeta", {}).items()
            if name in package.get("peerDependencies", {})
        }  # fmt: skip
        for field in (*EDGES, "peerDependenciesMeta"):
            if not package.get(field, True):
                del package[field]
    kept = set(reachable(packages))
    return {**lock, "packages": {path: package for path, package in packages.items() if path in kept}}


def text(lock: dict) -> str:
    """A line per package, so that a difference shows which packages changed."""
    head = {key: value for key, value in lock.items() if key != "packages"}
    lines = [f"{json.dumps(path)}: {json.dumps(package)}" for path, package in sorted(lock["packages"].items())]
    return json.dumps(head)[:-1] + ', "packages": {\n' + ",\n".join(lines) + "\n}}\n"


def main(folders: list[str]) -> int:
    if not folders:
        print(__doc__, file=sys.stderr)
        return 2
    for folder in map(Path, folders):
        project = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        file = folder / "package-lock.json"
        lock = reduced(json.loads(file.read_text(encoding="utf-8")), set(project["openmatesLab"]["without"]))
        file.write_text(text(lock), encoding="utf-8")
        print(f"{file}: {len(lock['packages']) - 1} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
