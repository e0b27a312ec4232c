# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of Vault that systemd keeps for the host's own units."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.module_utils import credential
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault


class Credential(credential.Credential):
    """A credential whose problems are Vault's."""

    def write(self, content: dict[str, t.Any]) -> None:
        """Encrypt the content to the file, which is replaced as a whole. Raises VaultProblem."""
        try:
            super().write(content)
        except credential.CredentialProblem as problem:
            raise vault.VaultProblem(str(problem)) from problem
