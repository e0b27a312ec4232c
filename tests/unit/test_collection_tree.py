"""The collection's place in the checkout, which tools can walk, and from which they can follow each import."""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COLLECTION = Path("ansible_collections/openmates/server")
PREFIX = "ansible_collections.openmates.server."
#: What Ansible, ansible-doc and ansible-galaxy read of a collection.
PARTS = {"CHANGELOG.md", "LICENSE", "docs", "files", "galaxy.yml", "meta", "playbooks", "plugins", "roles"}


def cycles(top: Path) -> list[Path]:
    """Directories below top that lead back to one of the directories that they are in."""
    found = []
    for folder, subfolders, _ in os.walk(top, followlinks=True):
        for name in list(subfolders):
            path = Path(folder) / name
            if path.resolve() in (parent.resolve() for parent in path.parents):
                found.append(path)
                subfolders.remove(name)
    return found


def imported(program: Path) -> Iterator[str]:
    """Full names of the collection's modules, and of the names in them, that a Python file imports."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(PREFIX))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def definition(name: str, roots: list[Path]) -> Path | None:
    """The file that defines a full name, either a module or a name at the top of one."""
    for root in roots:
        path = root / name.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
        file = path.parent.with_suffix(".py")
        if file.is_file() and path.name in defined(file):
            return file
    return None


def defined(program: Path) -> set[str]:
    """Names that a Python file binds anywhere, of which those that are imported are some."""
    names = set()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def editor_paths() -> list[Path]:
    """Where an editor looks for what is imported."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    return [ROOT / path for path in settings["extraPaths"]]


def test_the_tree_of_the_collection_has_no_cycle() -> None:
    assert cycles(ROOT / "collections") == []


def test_a_cycle_is_found(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/link").symlink_to("../..")
    assert cycles(tmp_path) == [tmp_path / "a/b/link"]


def test_the_collection_is_made_of_links_to_the_parts_that_ansible_reads() -> None:
    place = ROOT / "collections" / COLLECTION
    assert {path.name for path in place.iterdir()} == PARTS
    for part in PARTS:
        assert (place / part).is_symlink() and (place / part).samefile(ROOT / part)
        assert not (place / part).readlink().is_absolute()


def test_galaxy_ships_every_part() -> None:
    ignored = yaml.safe_load((ROOT / "galaxy.yml").read_text())["build_ignore"]
    assert PARTS.isdisjoint(ignored) and "collections" in ignored


@pytest.mark.parametrize("part", ["plugins", "tests", "contract", "lab"])
def test_an_editor_finds_the_definition_of_every_import(part: str) -> None:
    missing = [
        f"{program.relative_to(ROOT)}: {name}"
        for program in sorted((ROOT / part).rglob("*.py"))
        for name in imported(program)
        if definition(name, editor_paths()) is None
    ]
    assert missing == []


def test_an_import_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"from {PREFIX}plugins.module_utils.files import write, no_such_function\n")
    names = list(imported(program))
    assert [definition(name, editor_paths()) is None for name in names] == [False, True]
    assert definition(names[0], [tmp_path]) is None
