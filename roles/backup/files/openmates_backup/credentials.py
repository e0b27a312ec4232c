# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that systemd keeps encrypted on the host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from openmates_backup.problem import Problem

STORE = Path("/etc/credstore.encrypted")


def secrets(name: str, store: Path = STORE) -> dict[str, str]:
    """A credential: as systemd handed it to this unit, or decrypted here for root. Raises Problem."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        if folder and (Path(folder) / name).exists():
            return json.loads((Path(folder) / name).read_text())
        command = ["systemd-creds", "decrypt", f"--name={name}", str(store / name), "-"]
        done = subprocess.run(command, capture_output=True, check=False)
        return json.loads(done.stdout if done.returncode == 0 else "")
    except (OSError, ValueError):
        raise Problem(
            f"The credential {store / name} is missing or this server cannot decrypt it. `site.yml --tags vault,backup`"
            " writes it again."
        ) from None
