# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that systemd keeps for the host's own units."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically


class CredentialProblem(Exception):
    """Why a secret was not encrypted, without the secret."""


class Credential:
    """A secret that systemd keeps encrypted on the host, with its TPM where there is one, for units that need it."""

    def __init__(self, module: AnsibleModule, path: str) -> None:
        """The credential's name is the file's: systemd refuses one that was renamed."""
        self.module = module
        self.path = pathlib.Path(path)
        self.command = module.get_bin_path("systemd-creds", required=True)

    def read(self) -> dict[str, t.Any] | None:
        """Return what it holds, or None if it is not there or this host cannot decrypt it."""
        if not self.path.is_file():
            return None
        code, text, _ = self.module.run_command(
            [self.command, "decrypt", f"--name={self.path.name}", str(self.path), "-"]
        )
        try:
            return json.loads(text) if code == 0 else None
        except ValueError:
            return None

    def write(self, content: dict[str, t.Any]) -> None:
        """Encrypt the content to the file, which is replaced as a whole. Raises CredentialProblem."""
        code, sealed, error = self.module.run_command(
            [self.command, "encrypt", f"--name={self.path.name}", "-", "-"], data=json.dumps(content), binary_data=True
        )
        if code:
            raise CredentialProblem(f"systemd-creds cannot encrypt {self.path.name}: {error.strip()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.path, sealed.encode(), 0o600)
        except OSError as problem:
            raise CredentialProblem(f"{self.path} cannot be written: {problem.strerror}.") from problem
        if self.read() != content:
            raise CredentialProblem(f"{self.path} does not read back as it was written.")
