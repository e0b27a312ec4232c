#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write drop-in files into directories of the system, and correct lines and permissions of files there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drop_ins
short_description: Write files into directories of the system, and correct lines and permissions of files there
description:
  - For configuration that is spread over the directories of other packages, all in one call.
  - Unlike P(openmates.server.file_tree#module) it does not change existing directories.
  - Files are replaced atomically. An unchanged file is not touched.
  - Usually called through its action plugin, which renders a local directory of templates into O(files); see O(src).
options:
  dest:
    description: The directory that O(files) are below.
    type: path
    default: /etc
  src:
    description:
      - A directory on the controller. Files ending in C(.j2) are templates and lose that ending; the others are copied.
    type: path
  exclude:
    description: Paths below O(dest) of files of O(src) to leave out.
    type: list
    elements: str
    default: []
  files:
    description: The files to write, in addition to those of O(src). They belong to the user that the module runs as.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: "Path below O(dest).", type: str, required: true}
      content: {description: "The file's whole text.", type: str, required: true}
      mode: {description: "Octal permissions; default is what O(modes) says, or else 0644.", type: str}
  modes:
    description: Octal permissions of O(files), by path.
    type: dict
    default: {}
  absent:
    description: Paths below O(dest) of files that must not be there.
    type: list
    elements: str
    default: []
  validate:
    description:
      - Commands by path. A file is only installed if its command, run with C(%s) replaced by the name of a file with
        the new text, succeeds. In check mode a command that is not installed yet is not run.
    type: dict
    default: {}
  lines:
    description:
      - Lines of files that belong to other packages. Files that do not exist are skipped.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: "Absolute path.", type: path, required: true}
      match: {description: "Regular expression of the lines to replace.", type: str, required: true}
      line: {description: "The declared line; appended if there is none to replace.", type: str, required: true}
      reason: {description: "The reason, as documentation.", type: str}
  permissions:
    description:
      - Permissions of files and directories that belong to other packages. Missing ones and links are skipped.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: "Absolute path.", type: path, required: true}
      mode: {description: "Octal permissions.", type: str, required: true}
      owner: {description: "Name of the user; default is root.", type: str, default: root}
      group: {description: "Name of the group; default is root.", type: str, default: root}
      reason: {description: "The reason, as documentation.", type: str}
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: full, description: Shows changed files and permissions.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Limit the journal, and keep the table of users to root
  openmates.server.drop_ins:
    files:
      - path: systemd/journald.conf.d/openmates.conf
        content: "[Journal]\nSystemMaxUse=1G\n"
    permissions:
      - {path: /etc/shadow, mode: "0640", group: shadow, reason: It holds the hashes of passwords.}
"""

RETURN = r"""
written:
  description: Paths of the files that were created, changed or removed.
  type: list
  elements: str
  returned: always
corrected:
  description: Paths whose permissions or owner were changed.
  type: list
  elements: str
  returned: always
"""

import grp
import pwd
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import files
from ansible_collections.openmates.server.plugins.module_utils.arguments import PATH, REQUIRED, TEXT, several


class Refused(Exception):
    """A text that the validating command refuses."""


def with_line(text: str, match: str, line: str) -> str:
    """The text with `line` in place of the first line that matches, without others that do, or at its end."""
    pattern, result, done = re.compile(match), [], False
    for old in text.splitlines():
        if not pattern.search(old) and old != line:
            result.append(old)
        elif not done:
            result.append(line)
            done = True
    return "\n".join(result if done else [*result, line]) + "\n"


class Changes(files.Changes):
    """Writes files, and corrects files of other packages."""

    def __init__(self, dry: bool, with_diff: bool, run: Callable[[list[str]], tuple[int, str, str]]) -> None:
        super().__init__(dry, with_diff)
        self.run = run
        self.corrected: list[str] = []

    def write(self, path: Path, content: str, mode: int, owner: tuple[int, int], validate: str = "") -> None:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory, but must be a file. Move it away.")
        before = files.text(path)
        if before == content:
            self.permit(path, mode, owner)
            return
        if validate:
            self.check(path, content, validate)
        self.put(str(path), path, content, mode, owner, before)

    def check(self, path: Path, content: str, command: str) -> None:
        words = shlex.split(command)
        if self.dry and not shutil.which(words[0], path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
            return
        with tempfile.NamedTemporaryFile("w", errors="surrogateescape") as file:
            file.write(content)
            file.flush()
            code, out, error = self.run([word.replace("%s", file.name) for word in words])
        if code:
            raise Refused(f"{path} was not changed: {words[0]} refuses the new text: {(error or out).strip()}")

    def permit(self, path: Path, mode: int, owner: tuple[int, int]) -> None:
        if path.is_symlink() or not path.exists():
            return
        before, after = files.attributes(path), (mode, *owner)
        if before == after:
            return
        self.corrected.append(str(path))
        self.note(f"permissions of {path}", *("{:04o} {}:{}\n".format(*state) for state in (before, after)))
        if not self.dry:
            files.permit(path, mode, owner)

    def set_lines(self, lines: list[dict]) -> None:
        by_path: dict[str, list[dict]] = {}
        for line in lines:
            by_path.setdefault(line["path"], []).append(line)
        for name, wanted in by_path.items():
            path = Path(name).resolve()
            if not path.is_file():
                continue
            new = text = files.text(path) or ""
            mode, uid, gid = files.attributes(path)
            for line in wanted:
                new = with_line(new, line["match"], line["line"])
            if new.rstrip("\n") != text.rstrip("\n"):
                self.write(path, new, mode, (uid, gid))

    def remove(self, path: Path) -> None:
        if not path.is_symlink() and not path.exists():
            return
        self.written.append(str(path))
        self.note(f"{path} (removed)", path.read_text(errors="replace") if path.is_file() else "", "")
        if not self.dry:
            path.unlink()


def identities(item: dict) -> tuple[int, int]:
    """Numeric owner and group of an item. Raises ValueError for an unknown name."""
    try:
        return pwd.getpwnam(item["owner"]).pw_uid, grp.getgrnam(item["group"]).gr_gid
    except KeyError as error:
        raise ValueError(f"permissions of {item['path']}: {error.args[0]}") from error


def bring_about(changes: Changes, params: dict) -> None:
    dest = Path(params["dest"])
    for file in params["files"]:
        mode = file["mode"] or params["modes"].get(file["path"]) or "0644"
        command = params["validate"].get(file["path"], "")
        path = dest / files.relative(file["path"], "files")
        changes.write(path, file["content"], int(mode, 8), files.own(), command)
    for path in params["absent"]:
        changes.remove(dest / files.relative(path, "absent"))
    changes.set_lines(params["lines"])
    for item in params["permissions"]:
        if Path(item["path"]).exists():
            changes.permit(Path(item["path"]), int(item["mode"], 8), identities(item))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "default": "/etc"},
            "src": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "files": several(path=TEXT | REQUIRED, content=TEXT | REQUIRED, mode=TEXT),
            "modes": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
            "validate": {"type": "dict", "default": {}},
            "lines": several(path=PATH | REQUIRED, match=TEXT | REQUIRED, line=TEXT | REQUIRED, reason=TEXT),
            "permissions": several(
                path=PATH | REQUIRED,
                mode=TEXT | REQUIRED,
                owner=TEXT | {"default": "root"},
                group=TEXT | {"default": "root"},
                reason=TEXT,
            ),
        },
        supports_check_mode=True,
    )
    changes = Changes(module.check_mode, module._diff, module.run_command)
    try:
        bring_about(changes, module.params)
    except (Refused, ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    changed = bool(changes.written or changes.corrected)
    module.exit_json(changed=changed, written=changes.written, corrected=changes.corrected, diff=changes.diff)


if __name__ == "__main__":
    main()
