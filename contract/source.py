"""OpenMates' files, from a checkout, a Git repository at a revision, or an archive. Read only, and never unpacked."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from contract.findings import ContractError

MARKER = "backend/core/docker-compose.yml"
# Of the rest of the tree nothing is read: it is large, and the frontends are not this project's business.
WANTED_FOLDERS = ("backend/core/", "backend/shared/", "backend/apps/")
WANTED_FILES = (".env.example",)
LARGEST = 4_000_000  # bytes; no file that matters is near it


@dataclass
class Tree:
    """The wanted files of one version of OpenMates, by path from its root."""

    name: str
    paths: list[str]
    load: Callable[[str], str] = field(repr=False)

    def __post_init__(self) -> None:
        self.load = lru_cache(maxsize=None)(self.load)

    def __contains__(self, path: str) -> bool:
        return path in self.paths

    def under(self, *folders: str, suffix: str = "") -> Iterator[str]:
        """Paths below any of these folders, sorted."""
        return (path for path in self.paths if path.endswith(suffix) and path.startswith(folders))


def open_tree(location: Path, revision: str = "") -> Tree:
    """Open a checkout, a repository (bare or not) at a revision, or a .tar[.gz|.xz] or .zip archive."""
    if location.is_file():
        if revision:
            raise ContractError(f"REV={revision} is set, but {location} is an archive: it holds one version. Drop REV.")
        return _from_archive(location)
    if not location.is_dir():
        raise ContractError(f"OPENMATES={location} does not exist. Name a checkout, a Git repository or an archive.")
    if not revision and (location / MARKER).is_file():
        return _from_folder(location)
    if (location / ".git").exists() or (location / "HEAD").is_file():
        return _from_git(location, revision or "HEAD")
    if revision:
        raise ContractError(f"REV={revision} is set, but OPENMATES={location} is not a Git repository. Drop REV.")
    raise ContractError(f"OPENMATES={location} has no {MARKER}: it is not a checkout of OpenMates.")


def _wanted(path: str) -> bool:
    return path in WANTED_FILES or path.startswith(WANTED_FOLDERS)


def _tree(name: str, paths: list[str], load: Callable[[str], str]) -> Tree:
    if MARKER not in paths:
        raise ContractError(f"{name} has no {MARKER}: it is not a version of OpenMates that this tool can read.")
    return Tree(name, sorted(paths), load)


def _from_folder(root: Path) -> Tree:
    found = [root / name for name in WANTED_FILES if (root / name).is_file()]
    for folder in WANTED_FOLDERS:
        found += [path for path in (root / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    paths = [path.relative_to(root).as_posix() for path in found if path.stat().st_size <= LARGEST]
    return _tree(str(root), paths, lambda path: (root / path).read_text(errors="replace"))


def _git(repository: Path, *arguments: str, text: str = "") -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    result = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if result.returncode:
        raise ContractError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def _from_git(repository: Path, revision: str) -> Tree:
    commit = _git(repository, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    objects = {}
    for line in _git(repository, "ls-tree", "-rlz", commit, "--", *WANTED_FOLDERS, *WANTED_FILES).decode().split("\0"):
        if line:
            facts, path = line.split("\t", 1)
            mode, kind, identity, size = facts.split()
            if kind == "blob" and mode != "120000" and size.isdigit() and int(size) <= LARGEST:
                objects[path] = identity
    readable = [path for path in objects if path.endswith(_TEXT) or "Dockerfile" in path or path in WANTED_FILES]
    contents = _blobs(repository, {path: objects[path] for path in readable})
    name = f"{repository} at {revision} ({commit[:9]})"
    return _tree(name, list(objects), lambda path: contents.get(path, b"").decode(errors="replace"))


_TEXT = (".py", ".yml", ".yaml", ".sh", ".hcl", ".sql", ".json")


def _blobs(repository: Path, objects: dict[str, str]) -> dict[str, bytes]:
    """The contents of many objects through one process."""
    answer = _git(repository, "cat-file", "--batch", text="".join(f"{identity}\n" for identity in objects.values()))
    contents, position = {}, 0
    for path in objects:
        end = answer.index(b"\n", position)
        header = answer[position:end].split()
        if header[-1] == b"missing":  # a partial clone has no copy of it
            position = end + 1
            continue
        size = int(header[2])
        contents[path] = answer[end + 1 : end + 1 + size]
        position = end + 2 + size
    return contents


def _from_archive(path: Path) -> Tree:
    members: dict[str, bytes] = {}
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [entry.filename for entry in archive.infolist() if entry.file_size <= LARGEST]
                root = _root(path, names)
                members = {name[len(root) :]: archive.read(name) for name in names if _wanted(name[len(root) :])}
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                entries = [entry for entry in archive.getmembers() if entry.isfile() and entry.size <= LARGEST]
                root = _root(path, [entry.name for entry in entries])
                for entry in entries:
                    name = entry.name[len(root) :]
                    reader = archive.extractfile(entry) if entry.name.startswith(root) and _wanted(name) else None
                    if reader:
                        members[name] = reader.read()
        else:
            raise ContractError(f"OPENMATES={path} is neither a directory nor a .tar or .zip archive.")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise ContractError(f"OPENMATES={path} cannot be read: {error}") from error
    return _tree(str(path), list(members), lambda name: members[name].decode(errors="replace"))


def _root(archive: Path, names: list[str]) -> str:
    """What precedes OpenMates' own paths: archives of a release have one folder around everything."""
    found = [name for name in names if name == MARKER or name.endswith(f"/{MARKER}")]
    if not found:
        raise ContractError(f"OPENMATES={archive} has no {MARKER}: it is not an archive of OpenMates.")
    shortest = min(found, key=lambda name: len(PurePosixPath(name).parts))
    return shortest[: -len(MARKER)]
