# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the host that record an unfinished operation on its Vault, so that the next run completes it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault

# Argument spec; plugins/doc_fragments/vault.py documents it.
STATE: dict[str, t.Any] = {
    "state_directory": {"type": "path", "default": "/var/lib/openmates"},
    "former_state_directory": {"type": "path"},
}

# The id of a marker for a restore under way, in the place of an initialisation's.
RESTORE = "restore"

# The id of a marker that cannot be understood. No keys file carries it.
UNREADABLE = "unreadable"


class Marker:
    """One file. Older versions kept it among the Compose files; there it counts too, until it has been moved."""

    def __init__(self, path: pathlib.Path, former: pathlib.Path | None = None) -> None:
        self.path = path
        self.former = former

    def read(self) -> str | None:
        """Return the id that the marker carries, or None without a marker."""
        for path in filter(None, (self.path, self.former)):
            try:
                return str(json.loads(path.read_text("utf-8"))["init_id"])
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (ValueError, KeyError, TypeError):
                return UNREADABLE
        return None

    def present(self) -> bool:
        return self.read() is not None

    def write(self, init_id: str) -> None:
        """Record on disk that `init_id` is under way. Raises VaultProblem."""
        note = {
            "init_id": init_id,
            "note": "Vault is being initialised and its keys are not in custody yet. The next run repairs this.",
        }
        self._put((json.dumps(note, indent=2) + "\n").encode())

    def drop(self) -> None:
        """Remove the marker for good."""
        for path in filter(None, (self.path, self.former)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                sync_folder(path.parent)

    def move(self) -> None:
        """Move a marker of an older version to its present place. Can be interrupted at any moment, and repeated.

        The former file goes last, so that there is always at least one file. If both exist, an earlier move was
        interrupted and they are the same, or the present one is newer. Raises VaultProblem.
        """
        if self.former is None or not self.former.is_file():
            return
        if self.path.exists():
            self._drop_former()
        else:
            self._put(self.former.read_bytes())

    def _put(self, content: bytes) -> None:
        folder = self.path.parent
        try:
            made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            for parent in made:
                sync_folder(parent.parent)
            write_atomically(self.path, content, 0o600)
            self._drop_former()
        except OSError as error:
            raise vault.VaultProblem(f"The marker {self.path} cannot be written: {error.strerror}.") from error

    def _drop_former(self) -> None:
        if self.former is not None:
            with contextlib.suppress(FileNotFoundError):
                self.former.unlink()
                sync_folder(self.former.parent)


class Markers:
    """The markers of one host's Vault."""

    def __init__(self, directory: pathlib.Path, former: pathlib.Path | None = None) -> None:
        #: An initialisation whose keys are not in custody yet, or a restore under way.
        self.init = self._marker("init", directory, former)
        #: There may be root tokens.
        self.root = self._marker("root", directory, former)
        #: Vault comes from a snapshot, whose tokens and logins all have to go.
        self.wipe = self._marker("wipe", directory, former)

    @staticmethod
    def _marker(name: str, directory: pathlib.Path, former: pathlib.Path | None) -> Marker:
        return Marker(directory / f"vault-{name}", former / f".vault-{name}" if former else None)


def markers_of(params: dict[str, t.Any], check: bool) -> Markers:
    """Return the markers that a module's parameters name.

    Outside of check mode, those that an older version left are moved first. Raises VaultProblem.
    """
    former = params["former_state_directory"]
    markers = Markers(pathlib.Path(params["state_directory"]), pathlib.Path(former) if former else None)
    if not check:
        for marker in (markers.init, markers.root, markers.wipe):
            marker.move()
    return markers
