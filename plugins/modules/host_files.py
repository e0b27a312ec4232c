#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring files of a host to their declared state in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Bring any number of small files to their declared state in one call
description:
  - Writes files, removes others, and corrects lines and permissions of files that belong to other packages.
  - A link in place of a declared file is replaced and never followed.
  - Then brings the systemd units that read these files to their state, as M(openmates.server.host_units) does.
  - Called through its action plugin, which renders a local directory of templates into O(files); see O(src). It needs
    pipelining, because files may hold secrets, and switches it on.
  - A module of our own because a run writes about a hundred files. M(ansible.builtin.template) takes two round trips
    for each, and has neither a purge that shows what it would remove nor digests that do not reveal the content.
  - M(openmates.server.guarded_files) writes the same O(files) where a mistake could lock out all users.
options:
  dest:
    description: The directory that all O(files) are below.
    type: path
    default: /
  src:
    description:
      - A directory on the controller. Files ending in C(.j2) are templates and lose that ending; the others are copied.
        Those ending in C(.sh) are executable. An entry of O(files) without a content sets mode and other attributes
        of one of these files.
      - Files in the directory itself are rendered last, with the variable C(config_digests), which maps each
        subdirectory of C(config) to the SHA-256 of its rendered files.
    type: path
  exclude:
    description: Paths below O(dest) of files of O(src) to leave out.
    type: list
    elements: str
    default: []
  file_mode:
    description: Octal permissions of files that name none.
    type: str
    default: "0644"
  directory_mode:
    description:
      - Octal permissions of the directories below O(dest), which then belong to the user that the module runs as. A
        link or file in place of one is replaced.
      - Without it, existing directories are not changed and links to directories are followed.
    type: str
  dest_mode:
    description: The same for O(dest) itself, which may be a link to a directory.
    type: str
  absent:
    description: Paths of files that must not be there.
    type: list
    elements: path
    default: []
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
  lines:
    description: Lines of files that belong to other packages. Files that do not exist are skipped.
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
  sysctl:
    description:
      - Settings to apply to the running kernel, which would read them from a file of O(files) at boot. Each value is
        compared and, if it differs, set. Those that this kernel does not have, or does not allow to be set, are skipped
        and listed in RV(sysctl_left).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the setting. A C(*) between dots stands for every network interface.
        type: str
        required: true
      value: {description: "Its value.", type: str, required: true}
      reason: {description: "The reason, as documentation.", type: str}
attributes:
  check_mode:
    support: full
    description: Reports what would change, with the units that would be restarted for it.
  diff_mode: {support: full, description: "Shows changed files, permissions and settings; use C(no_log) for secrets."}
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.files, openmates.server.units]
"""

EXAMPLES = r"""
- name: Write the service's configuration
  openmates.server.host_files:
    src: "{{ playbook_dir }}/../files/compose"
    dest: /opt/openmates
    directory_mode: "0755"
    purge: true
    keep: [secrets]

- name: Limit the journal, and keep the table of users to root
  openmates.server.host_files:
    files:
      - path: /etc/systemd/journald.conf.d/openmates.conf
        content: "[Journal]\nSystemMaxUse=1G\n"
    units:
      - {name: systemd-journald, files: [/etc/systemd/journald.conf.d/openmates.conf], refresh: restart}
    permissions:
      - {path: /etc/shadow, mode: "0640", group: shadow, reason: It holds the hashes of passwords.}
"""

RETURN = r"""
written:
  description: Paths of the files that were created or changed.
  type: list
  elements: str
  returned: always
corrected:
  description: Paths of directories that were created, and of files and directories whose permissions were corrected.
  type: list
  elements: str
  returned: always
removed:
  description: Paths of the files that were removed.
  type: list
  elements: str
  returned: always
actions:
  description: The systemctl verbs that were, or in check mode would be, used, each with its unit.
  type: list
  elements: str
  returned: always
  sample: [daemon-reload, restart systemd-journald]
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
sysctl_applied:
  description: Settings of the running kernel that differed and were set.
  type: list
  elements: str
  returned: always
  sample: [net.ipv4.conf.all.accept_redirects]
sysctl_left:
  description: Names of settings that this kernel does not have, or that differ and cannot be set.
  type: list
  elements: str
  returned: always
"""

import grp
import os
import pwd
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import files, keyed_digest, sysctl, units
from ansible_collections.openmates.server.plugins.module_utils.arguments import PATH, REQUIRED, TEXT, several


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


def set_lines(changes: files.Changes, lines: list[dict]) -> None:
    """Correct lines of existing files, which keep their permissions."""
    by_path: dict[str, list[dict]] = {}
    for line in lines:
        by_path.setdefault(line["path"], []).append(line)
    for name, wanted in by_path.items():
        path = Path(name).resolve()
        if not path.is_file():
            continue
        new = text = files.text(path) or ""
        for line in wanted:
            new = with_line(new, line["match"], line["line"])
        if new.rstrip("\n") != text.rstrip("\n"):
            mode, *owner = files.attributes(path)
            changes.write(files.File(path, new, mode, tuple(owner)))


def undeclared(dest: Path, paths: set[Path], keep: list[str]) -> list[Path]:
    """Files and links below dest that are not among paths, sorted."""
    found = []
    for folder, subfolders, names in os.walk(dest):
        here = Path(folder)
        if here == dest:
            subfolders[:] = [name for name in subfolders if name not in keep]
            names = [name for name in names if name not in keep]
        links = [name for name in subfolders if (here / name).is_symlink()]
        found += [here / name for name in names + links]
    return sorted(set(found) - paths)


def identities(item: dict) -> tuple[int, int]:
    """Numeric owner and group of an item. Raises ValueError for an unknown name."""
    try:
        return pwd.getpwnam(item["owner"]).pw_uid, grp.getgrnam(item["group"]).gr_gid
    except KeyError as error:
        raise ValueError(f"permissions of {item['path']}: {error.args[0]}") from error


def bring_about(changes: files.Changes, wanted: list[files.File], params: dict) -> None:
    """Raises OSError, ValueError for a wrong option, and Refused."""
    dest = changes.dest
    absent = [files.below(path, dest, "absent") for path in params["absent"]]
    for file in wanted:
        if file.path.is_dir() and not file.path.is_symlink():
            raise IsADirectoryError(f"{file.path} is a directory, but must be a file. Move it away.")
    if params["dest_mode"]:
        changes.directory(dest, int(params["dest_mode"], 8))
    if params["directory_mode"]:
        for path in sorted({path for file in wanted for path in file.path.parents if dest in path.parents}):
            changes.directory(path, int(params["directory_mode"], 8))
    for file in wanted:
        changes.write(file)
    if params["purge"] and dest.is_dir():
        absent += undeclared(dest, {file.path for file in wanted}, params["keep"])
    for path in absent:
        changes.remove(path)
    set_lines(changes, params["lines"])
    for item in params["permissions"]:
        if Path(item["path"]).exists():
            changes.permit(Path(item["path"]), int(item["mode"], 8), identities(item))


def apply_sysctl(changes: files.Changes, settings: list[dict]) -> dict:
    """Apply kernel settings and return the result."""
    differed, left = sysctl.apply(settings, changes.dry)
    if differed:
        lines = ["".join(f"{item['name']} = {item[when]}\n" for item in differed) for when in ("before", "after")]
        changes.note("running kernel", *lines)
    return {"sysctl_applied": [item["name"] for item in differed], "sysctl_left": left}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": PATH | {"default": "/"},
            "src": PATH,
            "exclude": {"type": "list", "elements": "str", "default": []},
            "files": files.FILES,
            "file_mode": TEXT | {"default": "0644"},
            "directory_mode": TEXT,
            "dest_mode": TEXT,
            "absent": {"type": "list", "elements": "path", "default": []},
            "purge": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "digest_key": PATH | {"no_log": False},
            "lines": several(path=PATH | REQUIRED, match=TEXT | REQUIRED, line=TEXT | REQUIRED, reason=TEXT),
            "permissions": several(
                path=PATH | REQUIRED,
                mode=TEXT | REQUIRED,
                owner=TEXT | {"default": "root"},
                group=TEXT | {"default": "root"},
                reason=TEXT,
            ),
            "sysctl": several(name=TEXT | REQUIRED, value=TEXT | REQUIRED, reason=TEXT),
            "units": units.UNITS,
        },
        supports_check_mode=True,
    )
    params = module.params
    # Otherwise every result would contain the files' contents, including secrets, in the controller's -vvv output.
    shown = {"module_args": {**params, "files": [file["path"] for file in params["files"]]}}
    dest = Path(params["dest"])
    changes, run, result = files.Changes(module, dest), units.Units(module), {}
    try:
        wanted = files.declared(params["files"], dest, params["file_mode"])
        if params["digest_key"]:
            key, written = keyed_digest.host_key(Path(params["digest_key"]), module.check_mode)
            contents = {str(file.path.relative_to(dest)): file.content for file in wanted}
            result = {"digests": keyed_digest.by_directory(contents, key), "digest_key_written": written}
        bring_about(changes, wanted, params)
        result |= apply_sysctl(changes, params["sysctl"])
        run.converge(params["units"], changes.written)
    except (ValueError, files.Refused, units.UnitFailed) as error:
        module.fail_json(msg=str(error), actions=run.done, invocation=shown)
    except OSError as error:
        module.fail_json(msg=f"{dest} could not be brought to its declared state: {error}", invocation=shown)
    result |= changes.result() | {"actions": run.done}
    result["changed"] |= bool(result.get("digest_key_written") or result["sysctl_applied"] or run.done)
    module.exit_json(**result, invocation=shown)


if __name__ == "__main__":
    main()
