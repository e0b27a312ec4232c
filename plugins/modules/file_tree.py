#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a directory tree to a declared state in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: file_tree
short_description: Bring a whole directory of small files to a declared state in one call
description:
  - Writes every file of O(files) below O(dest), and with O(purge) removes what is not declared.
  - Files are replaced atomically. A file that is right is not touched.
  - Usually called through its action plugin, which renders a local directory of templates into O(files); see O(src).
options:
  dest:
    description: The directory on the host. It and its subdirectories are made when missing.
    type: path
    required: true
  src:
    description:
      - A directory on the controller. Files ending in C(.j2) are templates and lose that ending; the others are copied.
      - Files in the directory itself are rendered last, with the variable C(config_digests), which maps each
        subdirectory of C(config) to the SHA-256 of its rendered files.
    type: path
  exclude:
    description: Paths below O(dest) to leave out of what O(src) holds.
    type: list
    elements: str
    default: []
  files:
    description: The files to write, beside those of O(src).
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: "Path below O(dest).", type: str, required: true}
      content: {description: "The file's whole text.", type: str, required: true}
      mode: {description: "Octal permissions; default is O(file_mode).", type: str}
      uid: {description: "The numeric owner, for the file.", type: int, default: 0}
  file_mode:
    description: Octal permissions of files that name none.
    type: str
    default: "0644"
  directory_mode:
    description: Octal permissions of the directories below O(dest).
    type: str
    default: "0755"
  dest_mode:
    description: Octal permissions of O(dest) itself.
    type: str
    default: "0755"
  purge:
    description: Remove files below O(dest) that are not declared, except those below O(keep).
    type: bool
    default: false
  keep:
    description: Names directly below O(dest) that O(purge) and O(directory_mode) leave alone.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: full, description: Shows changed files; use C(no_log) for trees of secrets.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Write the service's configuration
  openmates.server.file_tree:
    src: "{{ playbook_dir }}/../files/compose"
    dest: /opt/openmates
    purge: true
    keep: [secrets]
"""

RETURN = r"""
written:
  description: Paths, below O(dest), of the files that were made or changed.
  type: list
  elements: str
  returned: always
removed:
  description: Paths, below O(dest), of the files that were removed.
  type: list
  elements: str
  returned: always
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def current_text(path: Path) -> str | None:
    """The file's text, or None where there is no regular file. Bytes that are not UTF-8 are kept as surrogates."""
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_bytes().decode("utf-8", "surrogateescape")


def attributes_differ(path: Path, mode: int, uid: int) -> bool:
    stat = path.lstat()
    return (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (mode, uid, uid)


def undeclared(dest: Path, declared: set[str], keep: list[str]) -> list[str]:
    """Paths of files below dest that nobody declared, as sorted relative paths."""
    found = []
    for folder, subfolders, names in os.walk(dest):
        here = Path(folder).relative_to(dest)
        if here == Path():
            subfolders[:] = [name for name in subfolders if name not in keep]
            names = [name for name in names if name not in keep]
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        found += [str(here / name) for name in names + links]
    return sorted(set(found) - declared)


def write(path: Path, content: str, mode: int, uid: int) -> None:
    """Replace the file in one step; it never exists with looser permissions than asked for."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".file_tree.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
            os.fchown(file.fileno(), uid, uid)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "src": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str"},
                    "uid": {"type": "int", "default": 0},
                },
            },
            "file_mode": {"type": "str", "default": "0644"},
            "directory_mode": {"type": "str", "default": "0755"},
            "dest_mode": {"type": "str", "default": "0755"},
            "purge": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    dest = Path(params["dest"])
    diffs: list[dict[str, str]] = []
    written, removed, remoded = [], [], []

    directories = {dest}
    for file in params["files"]:
        relative = Path(file["path"])
        if relative.is_absolute() or ".." in relative.parts:
            module.fail_json(msg=f"files: path {file['path']!r} is not below dest. Use a relative path without '..'.")
        directories.update(dest / parent for parent in relative.parents)
    for directory in sorted(directories):
        directory_mode = int(params["dest_mode" if directory == dest else "directory_mode"], 8)
        if directory.is_dir():
            if attributes_differ(directory, directory_mode, 0):
                remoded.append(str(directory))
                if not module.check_mode:
                    os.chown(directory, 0, 0)
                    directory.chmod(directory_mode)
        elif not module.check_mode:
            directory.mkdir(mode=directory_mode, parents=True)
            directory.chmod(directory_mode)

    for file in params["files"]:
        path, mode = dest / file["path"], int(file["mode"] or params["file_mode"], 8)
        before = current_text(path)
        if before == file["content"] and not attributes_differ(path, mode, file["uid"]):
            continue
        written.append(file["path"])
        diffs.append(
            {
                "before_header": file["path"],
                "after_header": file["path"],
                "before": before or "",
                "after": file["content"],
            }
        )
        if not module.check_mode:
            write(path, file["content"], mode, file["uid"])

    if params["purge"] and dest.is_dir():
        for relative in undeclared(dest, {file["path"] for file in params["files"]}, params["keep"]):
            removed.append(relative)
            before = current_text(dest / relative) or ""
            diffs.append(
                {"before_header": relative, "after_header": f"{relative} (removed)", "before": before, "after": ""}
            )
            if not module.check_mode:
                (dest / relative).unlink()

    module.exit_json(changed=bool(written or removed or remoded), written=written, removed=removed, diff=diffs)


if __name__ == "__main__":
    main()
