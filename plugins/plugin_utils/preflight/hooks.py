# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators' own task files, which a run includes before and after its changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible.playbook.block import Block
from ansible.playbook.task import Task
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

SETTING, FILES = "openmates_hooks", "openmates_hook_files"
NAMES = ("before_site", "after_site", "before_deploy", "after_deploy")
WRITE = "Write it as {before_site: [hooks/before.yml]}, with paths from the directory that the inventory is in"
#: Keys of a task that name no action.
KEYWORDS = {*Task.fattributes, *Block.fattributes} - {"action", "local_action", "block"}
ENCRYPTED = "$ANSIBLE_VAULT"


def check_hooks(run: Preflight) -> Iterator[str]:
    hooks = run.get(SETTING, {})
    for name, files in hooks.items():
        if name not in NAMES:
            yield run.problem(SETTING, f"{name!r} is not one of {', '.join(NAMES)}", WRITE)
        elif not isinstance(files, list) or not all(isinstance(file, str) and file for file in files):
            yield run.problem(SETTING, f"{name} is not a list of files", WRITE)
        else:
            for file in run.get(FILES, {}).get(name, []):
                what, remedy = _wrong(Path(file))
                if what:
                    yield run.problem(SETTING, f"{name}: {file} {what}", remedy)


def _wrong(file: Path) -> tuple[str, str]:
    """What is wrong with a file of tasks, and the remedy; two empty strings if nothing is."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "does not exist", WRITE
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read ({type(error).__name__})", "Name a YAML file that this user can read"
    if text.startswith(ENCRYPTED):
        return "", ""  # Ansible decrypts it when it is included
    remedy = "Write a list of tasks, as in tasks/main.yml of a role"
    try:
        tasks = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        return f"is not valid YAML{'' if line is None else f' (line {line + 1})'}", remedy
    if not isinstance(tasks, list) or not tasks:
        return "is not a list of tasks", remedy
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, dict):
            return f"is not a list of tasks: entry {number} is none", remedy
        if "hosts" in task:
            return "is a playbook", "Keep its list of tasks alone: they run on the server of the run"
        if not [key for key in task if key not in KEYWORDS and not str(key).startswith("with_")]:
            return f"has no module in task {number}", remedy
    return "", ""


class _Loader(yaml.SafeLoader):
    """Accepts Ansible's tags, whose values are of no interest here."""


def _untagged(_loader: yaml.SafeLoader, _suffix: str, _node: Any) -> None:
    return None


_Loader.add_multi_constructor("!", _untagged)

CHECKS = (check_hooks,)
