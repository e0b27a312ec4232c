# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring files of a host to their declared state. The one implementation of all modules that write files."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import tempfile
import typing as t
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.arguments import PATH, REQUIRED, TEXT, several
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically

#: The argument spec of a module's option `files`; see the documentation fragment of the same name.
FILES = several(path=PATH | REQUIRED, content=TEXT, mode=TEXT, owner=TEXT, directory_mode=TEXT, validate=TEXT)
COMMANDS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    """A text that the validating command refuses."""


def own() -> tuple[int, int]:
    """The user and group that the module runs as."""
    return os.geteuid(), os.getegid()


def below(path: str, dest: Path, option: str) -> Path:
    """A path of an option, which has to be below dest. Raises ValueError with the option's name."""
    result = dest / path
    if ".." in Path(path).parts or dest not in result.parents:
        raise ValueError(f"{option}: path {path!r} is not below {dest}. Use one that is, without '..'.")
    return result


def text(path: Path) -> str | None:
    """The file's text, or None where there is no regular file. Bytes that are not UTF-8 are kept as surrogates."""
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_bytes().decode("utf-8", "surrogateescape")


def attributes(path: Path) -> tuple[int, int, int]:
    """Mode, user and group. Raises OSError."""
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def permit(path: Path, mode: int, owner: tuple[int, int]) -> None:
    """Set the attributes of an existing file. Raises OSError."""
    os.chown(path, *owner)
    path.chmod(mode)


def write(path: Path, content: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a text, as `text` returns it, atomically, and create its directory. `owner`: default is `own`."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, content.encode("utf-8", "surrogateescape"), mode, *(owner or own()))


def difference(header: str, before: str | None, after: str, after_header: str = "") -> dict[str, str]:
    """One entry of a result's diff. `after_header`: if it differs."""
    headers = {"before_header": header, "after_header": after_header or header}
    return {**headers, "before": before or "", "after": after}


class File(t.NamedTuple):
    """The declared state of a file. The owner is None if the user does not exist yet, as in a dry run."""

    path: Path
    content: str
    mode: int
    owner: tuple[int, int] | None
    directory_mode: int | None = None
    validate: str = ""

    def present(self) -> bool:
        """Whether the file, and its directory if declared, is as declared."""
        if self.owner is None or text(self.path) != self.content:
            return False
        if self.directory_mode is not None and attributes(self.path.parent) != (self.directory_mode, *self.owner):
            return False
        return attributes(self.path) == (self.mode, *self.owner)

    def write(self) -> None:
        """Write file and directory, whether they differ or not. Raises OSError."""
        if self.owner is None:
            raise OSError(f"the owner of {self.path} does not exist")
        if self.directory_mode is not None:
            self.path.parent.mkdir(mode=self.directory_mode, parents=True, exist_ok=True)
            permit(self.path.parent, self.directory_mode, self.owner)
        write(self.path, self.content, self.mode, self.owner)


def declared(items: Iterable[dict], dest: Path = Path("/"), mode: str = "0644") -> list[File]:
    """The files of a module's option `files`. Raises ValueError for a wrong path, and for one that is given twice."""
    result: dict[Path, File] = {}
    for item in items:
        path = below(item["path"], dest, "files")
        if path in result:
            raise ValueError(f"files: path {item['path']!r} is given twice.")
        if item["content"] is None:
            raise ValueError(f"files: path {item['path']!r} has no content, and no file of src has this path.")
        directory_mode = int(item["directory_mode"], 8) if item["directory_mode"] else None
        file_mode = int(item["mode"] or mode, 8)
        result[path] = File(
            path, item["content"], file_mode, _owner(item["owner"]), directory_mode, item["validate"] or ""
        )
    return list(result.values())


def _owner(name: str | None) -> tuple[int, int] | None:
    """User and group of a user's name, or of a number, which needs no user. None if there is no such user."""
    if name is None:
        return own()
    if name.isdecimal():
        return int(name), int(name)
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return None
    return user.pw_uid, user.pw_gid


class Changes:
    """One run of a module below dest: makes the changes, or in check mode only records them."""

    def __init__(self, module: AnsibleModule, dest: Path = Path("/")) -> None:
        self.dry, self.with_diff, self.run, self.dest = module.check_mode, module._diff, module.run_command, dest
        self.written: list[str] = []
        self.removed: list[str] = []
        self.corrected: list[str] = []
        self.diff: list[dict[str, str]] = []
        self.replaced: set[Path] = set()  # links and files that were replaced by a directory

    def write(self, file: File) -> None:
        """Have the file. Raises OSError, and Refused with the output of the validating command."""
        path = file.path
        before = None if self.replaced.intersection(path.parents) else text(path)
        if before == file.content and file.owner and file.directory_mode is None:
            self.permit(path, file.mode, file.owner)
        elif before != file.content or not file.present():
            if file.validate and before != file.content:
                self._validate(file)
            self.written.append(str(path))
            self.note(str(path), before, file.content)
            if not self.dry:
                file.write()

    def _validate(self, file: File) -> None:
        words = shlex.split(file.validate)
        # Before its package is installed, which a dry run does not do.
        if self.dry and not (file.path.parent.is_dir() and shutil.which(words[0], path=COMMANDS)):
            return
        with tempfile.NamedTemporaryFile("w", errors="surrogateescape") as temporary:
            temporary.write(file.content)
            temporary.flush()
            data = None if "%s" in file.validate else file.content
            code, out, error = self.run([word.replace("%s", temporary.name) for word in words], data=data)
        if code:
            raise Refused(f"{file.path} was not changed: {words[0]} refuses the new text: {(error or out).strip()}")

    def permit(self, path: Path, mode: int, owner: tuple[int, int]) -> None:
        """Correct permissions and owner of a file or directory; missing ones and links are skipped."""
        if path.is_symlink() or not path.exists():
            return
        before, after = attributes(path), (mode, *owner)
        if before == after:
            return
        self.corrected.append(str(path))
        self.note(f"permissions of {path}", *("{:04o} {}:{}\n".format(*state) for state in (before, after)))
        if not self.dry:
            permit(path, mode, owner)

    def directory(self, path: Path, mode: int) -> None:
        """Have a directory. One below dest replaces a link or file; dest itself may be a link to a directory."""
        in_the_way = path != self.dest and (path.is_symlink() or (path.exists() and not path.is_dir()))
        if path.is_dir() and not in_the_way:
            self.permit(path.resolve(), mode, own())
            return
        self.corrected.append(str(path))
        if in_the_way:
            self.replaced.add(path)
        if self.dry:
            return
        if in_the_way:
            path.unlink()
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        permit(path, mode, own())

    def remove(self, path: Path) -> None:
        """Have no such file or link."""
        if (not path.is_symlink() and not path.exists()) or self.replaced.intersection((path, *path.parents)):
            return
        self.removed.append(str(path))
        if self.with_diff:  # an undeclared file may be large, so it is read only for the diff
            self.note(str(path), text(path), "", f"{path} (removed)")
        if not self.dry:
            path.unlink()

    def result(self) -> dict[str, t.Any]:
        """What the module returns, except for its invocation."""
        done = {"written": self.written, "removed": self.removed, "corrected": self.corrected}
        return {"changed": any(done.values()), **done, "diff": self.diff}

    def note(self, header: str, before: str | None, after: str, after_header: str = "") -> None:
        """Add to the diff, if there is to be one."""
        if self.with_diff:
            self.diff.append(difference(header, before, after, after_header))
