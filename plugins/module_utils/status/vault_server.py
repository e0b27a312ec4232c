# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of Vault, and how long the services' token is valid. The token itself is returned nowhere."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils.vault.api import ACTIVE, Api, VaultProblem

SECONDS = 5


def found(address: str, token_file: Path) -> dict[str, t.Any]:
    """The state, and of an active Vault the seconds that the token is valid for; `problem` and `token_problem`."""
    answer = {"state": "", "problem": "", "token_seconds": None, "token_problem": ""}
    if not address:
        return answer | {"problem": "its container does not run"}
    vault = Api(f"http://{address}:8200", SECONDS)
    try:
        answer["state"] = vault.state()
        if answer["state"] == ACTIVE:
            answer |= _token(vault, token_file)
    except VaultProblem as problem:
        answer["problem"] = str(problem).rstrip(".")
    return answer


def _token(vault: Api, file: Path) -> dict[str, t.Any]:
    try:
        token = file.read_text("ascii").strip()
    except (OSError, ValueError):
        return {"token_problem": f"the services' token is missing: {file}"}
    status, answer = vault.call("GET", "auth/token/lookup-self", token=token)
    if status != 200:
        return {"token_problem": f"Vault refuses the services' token (status {status})"}
    return {"token_seconds": answer["data"]["ttl"]}
