# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the two engines a server runs and in which version, as the server itself answers. Standard library only."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.module_utils.vault.api import Api, VaultUnreachable

TIMEOUT = 2


def ask(address: str, port: int = 8200) -> str:
    """Return "HashiCorp Vault 1.21.0" or "OpenBao 2.7.2", or an empty string if there is no such answer.

    Needs no token, and a sealed or empty server answers as well.
    """
    try:
        _, answer = Api(f"http://{address}:{port}", TIMEOUT).call("GET", "sys/health")
        version = str(answer["version"])
    except (VaultUnreachable, KeyError):
        return ""
    # Every edition of HashiCorp Vault reports whether it is the commercial one; OpenBao has no such field.
    return f"{'HashiCorp Vault' if 'enterprise' in answer else 'OpenBao'} {version}"
