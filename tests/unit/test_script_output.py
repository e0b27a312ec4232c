"""Ansible's `script` gives a script a terminal, which joins its outputs: the result has no reason in `stderr`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILES = [file for folder in ("roles", "playbooks") for file in (ROOT / folder).rglob("*.yml")]


def results(tasks: object) -> set[str]:
    """The names of the results of all `script` tasks, those in blocks included."""
    found: set[str] = set()
    for task in tasks if isinstance(tasks, list) else []:
        if not isinstance(task, dict):
            continue
        if "ansible.builtin.script" in task and "register" in task:
            found.add(task["register"])
        for key in ("tasks", "block", "rescue", "always"):
            found |= results(task.get(key))
    return found


def test_the_standard_error_of_a_script_is_not_read() -> None:
    texts = {file: file.read_text() for file in FILES}
    names = set().union(*(results(yaml.safe_load(text)) for text in texts.values() if "builtin.script" in text))
    assert names, "no task runs a script: this test is of no use"
    reads = re.compile(rf"\b({'|'.join(sorted(names))})\.stderr")
    assert not [str(file.relative_to(ROOT)) for file, text in texts.items() if reads.search(text)]
