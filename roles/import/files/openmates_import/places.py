# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an import keeps something meanwhile, on either server; all of it for root only."""

from __future__ import annotations

from pathlib import Path

#: On the disk: dumps and archives of files; Vault's storage, which is encrypted.
STAGING = Path("/var/lib/openmates-import")
#: In memory: what Vault holds, in plaintext.
SECRET = Path("/run/openmates-import/secret")
#: The containers of the old server that an import stopped.
STOPPED = STAGING / "stopped.json"
EXPORT = STAGING / "export"
VAULT_EXPORT = SECRET / "vault.jsonl"
#: On the new server; what Vault had is beside SECRET, in memory too.
RECEIVED = STAGING / "received"
VAULT_RECEIVED = Path("/run/openmates-import/received")
