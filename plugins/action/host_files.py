# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a local directory of templates and pass all files to the module in one call."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.template import trust_as_template
from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction

CACHE = "__pycache__"  # created by tests and editors beside a Python program; differs on each controller


class ActionModule(PipelinedAction):
    """Turns ``src`` into ``files``; the module handles all other options."""

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the module's arguments from the task's."""
        source, exclude = args.pop("src", None), args.pop("exclude", None) or []
        if source:
            args["files"] = with_attributes(self._render(Path(source), exclude, task_vars), args.get("files") or [])
        return args

    def _render(self, source: Path, exclude: list[str], variables: dict) -> list[dict]:
        if not source.is_dir():
            raise AnsibleActionFail(f"src: {source} is not a directory on the controller.")
        paths = sorted(
            path
            for path in source.rglob("*")
            if path.is_file() and self._name(path, source) not in exclude and path.parent.name != CACHE
        )
        nested = [path for path in paths if path.parent != source]
        contents = {self._name(path, source): self._text(path, variables) for path in nested}
        variables = {**variables, "config_digests": config_digests(contents)}
        contents |= {self._name(path, source): self._text(path, variables) for path in paths if path.parent == source}
        return [
            {"path": name, "content": content, "mode": "0755" if name.endswith(".sh") else None}
            for name, content in contents.items()
        ]

    @staticmethod
    def _name(path: Path, source: Path) -> str:
        return str(path.relative_to(source)).removesuffix(".j2")

    def _text(self, path: Path, variables: dict) -> str:
        text = path.read_text()
        if path.suffix != ".j2":
            return text
        templar = self._templar.copy_with_new_env(searchpath=[str(path.parent)], available_variables=variables)
        try:
            result = templar.template(trust_as_template(text), escape_backslashes=False)
        except Exception as error:
            raise AnsibleActionFail(f"{path}: {error}") from error
        if isinstance(result, str):
            return result
        # A template that is a single expression returns its value, of any type, without the final newline.
        return ("" if result is None else str(result)) + text[len(text.rstrip("\n")) :]


def with_attributes(rendered: list[dict], files: list[dict]) -> list[dict]:
    """All files; those without a content are attributes of a rendered file with the same path."""
    attributes = {file["path"]: file for file in files if file.get("content") is None}
    merged = [{**file, **attributes.pop(file["path"], {})} for file in rendered]
    return [*merged, *attributes.values(), *(file for file in files if file.get("content") is not None)]


def config_digests(contents: dict[str, str]) -> dict[str, str]:
    """Map each directory below ``config/`` to the SHA-256 of its files' names and texts."""
    digests: dict[str, hashlib._Hash] = {}
    for name, content in sorted(contents.items()):
        parts = name.split("/")
        if parts[0] == "config" and len(parts) > 2:
            digests.setdefault(parts[1], hashlib.sha256()).update(f"{name}\0{content}\0".encode())
    return {directory: digest.hexdigest() for directory, digest in digests.items()}
