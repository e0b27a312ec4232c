"""The lock files of the lab's npm images hold what `npm ci` needs, every package with its hash."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"
spec = importlib.util.spec_from_file_location("npm_lock", LAB / "npm_lock.py")
assert spec and spec.loader
npm_lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(npm_lock)

LOCKS = sorted((LAB / "images").glob("*/package-lock.json"))


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.parent.name)
def test_a_lock_is_reduced_and_complete(file: Path) -> None:
    project = json.loads((file.parent / "package.json").read_text())
    lock = json.loads(file.read_text())
    without = set(project["openmatesLab"]["without"])
    assert npm_lock.text(npm_lock.reduced(lock, without)) == file.read_text(), "run lab/npm_lock.py on the folder"
    packages = {path: package for path, package in lock["packages"].items() if path}
    assert len(packages) > 1000
    for path, package in packages.items():
        assert package["integrity"].startswith("sha512-") or "sha1-" in package["integrity"], path
        assert "resolved" not in package
        for name in package.get("dependencies", {}):
            assert npm_lock.resolve(lock["packages"], path, name), f"{path} needs {name}"
    assert "://" not in file.read_text()
    assert lock["packages"][""]["dependencies"] == project["dependencies"]


def lock(**packages: dict) -> dict:
    return {"lockfileVersion": 3, "packages": {"": {"dependencies": {"a": "1"}}, **packages}}


def test_other_machines_unwanted_packages_and_what_only_they_need_are_left_out() -> None:
    given = lock(**{
        "node_modules/a": {
            "version": "1", "integrity": "sha512-a", "license": "MIT", "dependencies": {"b": "1", "driver": "1"},
            "optionalDependencies": {"a-mac": "1", "a-arm": "1", "a-musl": "1"},
        },
        "node_modules/a/node_modules/b": {"version": "1", "integrity": "sha512-b"},
        "node_modules/b": {"version": "2", "integrity": "sha512-c"},
        "node_modules/a-mac": {"version": "1", "os": ["darwin"]},
        "node_modules/a-arm": {"version": "1", "os": ["linux"], "cpu": ["arm64"], "libc": ["glibc"]},
        "node_modules/a-musl": {"version": "1", "os": ["linux"], "libc": ["musl"]},
        "node_modules/driver": {"version": "1", "dependencies": {"only-the-drivers": "1"}},
        "node_modules/only-the-drivers": {"version": "1"},
    })  # fmt: skip
    packages = npm_lock.reduced(given, {"driver"})["packages"]
    assert set(packages) == {"", "node_modules/a", "node_modules/a/node_modules/b", "node_modules/a-arm"}
    assert packages["node_modules/a"] == {
        "version": "1", "integrity": "sha512-a", "dependencies": {"b": "1"}, "optionalDependencies": {"a-arm": "1"},
    }  # fmt: skip


@pytest.mark.parametrize(("system", "kept"), [(["!win32"], True), (["!linux"], False), (["linux", "darwin"], True)])
def test_a_system_may_be_refused_by_name(system: list[str], kept: bool) -> None:
    assert npm_lock.for_the_lab({"os": system}) is kept


def test_a_scope_can_be_left_out_as_a_whole() -> None:
    given = lock(**{"node_modules/a": {"dependencies": {"@x/y": "1"}}, "node_modules/@x/y": {"version": "1"}})
    assert "node_modules/@x/y" not in npm_lock.reduced(given, {"@x"})["packages"]
