#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a directory tree to a declared state in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: file_tree
short_description: Bring a whole directory of small files to a declared state in one call
description:
  - Writes every file of O(files) below O(dest), and with O(purge) removes undeclared files.
  - Files are replaced atomically. An unchanged file is not touched.
  - Directories, and files without O(files[].uid), belong to the user that the module runs as (with C(become), root).
  - A link below O(dest) is never followed. One in place of a declared file or directory is replaced.
  - Usually called through its action plugin, which renders a local directory of templates into O(files); see O(src).
options:
  dest:
    description: The directory on the host. It and its subdirectories are created if missing.
    type: path
    required: true
  src:
    description:
      - A directory on the controller. Files ending in C(.j2) are templates and lose that ending; the others are copied.
      - Files in the directory itself are rendered last, with the variable C(config_digests), which maps each
        subdirectory of C(config) to the SHA-256 of its rendered files.
    type: path
  exclude:
    description: Paths below O(dest) of files of O(src) to leave out.
    type: list
    elements: str
    default: []
  files:
    description: The files to write, in addition to those of O(src).
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: "Path below O(dest).", type: str, required: true}
      content: {description: "The file's whole text.", type: str, required: true}
      mode: {description: "Octal permissions; default is O(file_mode).", type: str}
      uid: {description: "The file's numeric user and group; default is those that the module runs as.", type: int}
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
    description: Names directly below O(dest) that O(purge) leaves alone.
    type: list
    elements: str
    default: []
  digest_key:
    description:
      - A file on the host with the random key of RV(digests). Made once, readable by the module's user alone.
      - If it is lost, the next run makes another one, and all digests change.
    type: path
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
  description: Paths, below O(dest), of the files that were created or changed.
  type: list
  elements: str
  returned: always
directories:
  description: Paths, below O(dest), of the directories that were created or corrected; C(.) is O(dest) itself.
  type: list
  elements: str
  returned: always
removed:
  description: Paths, below O(dest), of the files that were removed.
  type: list
  elements: str
  returned: always
digests:
  description:
    - Maps each directory directly below O(dest) to a digest of the files that are declared in it, so that a change of
      one can be shown where the files' content must not be. Without O(digest_key)'s content, a digest tells nothing.
    - In check mode, as long as there is no key on the host, each call gives other digests.
  type: dict
  returned: when O(digest_key) is given
digest_key_written:
  description: Whether the key was made or its permissions were corrected.
  type: bool
  returned: when O(digest_key) is given
"""

import os
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import files, keyed_digest
from ansible_collections.openmates.server.plugins.module_utils.arguments import NUMBER, REQUIRED, TEXT, several


class File(NamedTuple):
    """The declared state of a file: its text, permissions, numeric user and group."""

    content: str
    mode: int
    owner: tuple[int, int]


def declared(items: list[dict], file_mode: str) -> dict[str, File]:
    """The files by path. Raises ValueError for a path that is not below dest, and for one that is given twice."""
    result: dict[str, File] = {}
    for item in items:
        path = str(files.relative(item["path"], "files"))
        if path in result:
            raise ValueError(f"files: path {item['path']!r} is given twice.")
        uid = item["uid"]
        owner = files.own() if uid is None else (uid, uid)
        result[path] = File(item["content"], int(item["mode"] or file_mode, 8), owner)
    return result


def undeclared(dest: Path, paths: set[str], keep: list[str]) -> list[str]:
    """Paths of files below dest that are not among paths, relative to dest and sorted."""
    found = []
    for folder, subfolders, names in os.walk(dest):
        here = Path(folder).relative_to(dest)
        if here == Path():
            subfolders[:] = [name for name in subfolders if name not in keep]
            names = [name for name in names if name not in keep]
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        found += [str(here / name) for name in names + links]
    return sorted(set(found) - paths)


class Tree(files.Changes):
    """One run below dest."""

    def __init__(self, dest: Path, dry: bool, with_diff: bool) -> None:
        super().__init__(dry, with_diff)
        self.dest = dest
        self.removed: list[str] = []
        self.directories: list[str] = []
        self.replaced: set[Path] = set()  # links and files that were replaced by a directory

    def make_directory(self, path: Path, mode: int) -> None:
        in_the_way = path != self.dest and (path.is_symlink() or (path.exists() and not path.is_dir()))
        if path.is_dir() and not in_the_way and files.attributes(path) == (mode, *files.own()):
            return
        self.directories.append(str(path.relative_to(self.dest)))
        if in_the_way:
            self.replaced.add(path)
        if self.dry:
            return
        if in_the_way:
            path.unlink()
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        files.permit(path, mode, files.own())

    def write_file(self, relative: str, file: File) -> None:
        path = self.dest / relative
        before = None if self.replaced.intersection(path.parents) else files.text(path)
        if before != file.content or files.attributes(path) != (file.mode, *file.owner):
            self.put(relative, path, *file, before)

    def remove_file(self, relative: str) -> None:
        path = self.dest / relative
        self.removed.append(relative)
        if self.with_diff:  # an undeclared file may be large, so it is read only for the diff
            self.note(relative, files.text(path), "", f"{relative} (removed)")
        if not self.dry:
            path.unlink()

    def result(self) -> dict:
        return {
            "changed": bool(self.written or self.removed or self.directories),
            "written": self.written,
            "removed": self.removed,
            "directories": self.directories,
            "diff": self.diff,
        }


def bring_about(tree: Tree, wanted: dict[str, File], params: dict) -> None:
    """Create directories, write files, remove the rest. Raises OSError, and ValueError for a bad octal number."""
    dest = tree.dest
    for relative in wanted:
        if (dest / relative).is_dir() and not (dest / relative).is_symlink():
            raise IsADirectoryError(f"{dest / relative} is a directory, but must be a file. Move it away.")
    for path in sorted({dest, *(dest / parent for relative in wanted for parent in Path(relative).parents)}):
        tree.make_directory(path, int(params["dest_mode" if path == dest else "directory_mode"], 8))
    for relative, file in wanted.items():
        tree.write_file(relative, file)
    if params["purge"] and dest.is_dir():
        for relative in undeclared(dest, set(wanted), params["keep"]):
            if not tree.replaced.intersection((dest / relative, *(dest / relative).parents)):
                tree.remove_file(relative)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "src": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "files": several(path=TEXT | REQUIRED, content=TEXT | REQUIRED, mode=TEXT, uid=NUMBER),
            "file_mode": {"type": "str", "default": "0644"},
            "directory_mode": {"type": "str", "default": "0755"},
            "dest_mode": {"type": "str", "default": "0755"},
            "purge": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "digest_key": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    # Otherwise every result would contain the files' contents, including secrets, in the controller's -vvv output.
    shown = {"module_args": {**params, "files": [file["path"] for file in params["files"]]}}
    tree = Tree(Path(params["dest"]), module.check_mode, module._diff)
    result = {}
    try:
        wanted = declared(params["files"], params["file_mode"])
        if params["digest_key"]:
            key, written = keyed_digest.host_key(Path(params["digest_key"]), module.check_mode)
            contents = {path: file.content for path, file in wanted.items()}
            result = {"digests": keyed_digest.by_directory(contents, key), "digest_key_written": written}
        bring_about(tree, wanted, params)
    except ValueError as error:
        module.fail_json(msg=str(error), invocation=shown)
    except OSError as error:
        module.fail_json(msg=f"{params['dest']} could not be brought to its declared state: {error}", invocation=shown)
    result |= tree.result()
    result["changed"] |= result.get("digest_key_written", False)
    module.exit_json(**result, invocation=shown)


if __name__ == "__main__":
    main()
