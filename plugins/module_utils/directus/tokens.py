# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The static tokens of Directus's service users, from Vault, which has the only copy outside of Directus."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t
from urllib.error import HTTPError, URLError

from ansible_collections.openmates.server.plugins.module_utils.directus.api import DirectusProblem, fetch

# Shorter tokens can be guessed.
MINIMUM_LENGTH = 32
TIMEOUT = 20  # seconds


def is_secret_name(setting: str) -> bool:
    """Whether a setting's name indicates a secret value."""
    return re.search(r"(api_key|secret|password|token|license_key)", setting) is not None


def read(source: dict[str, t.Any] | None, names: list[str], lenient: bool) -> dict[str, str]:
    """The tokens of the users of these names. Raises DirectusProblem if one is missing.

    `source`: the module option `tokens_from`. `lenient`: leave out unreadable tokens, as in check mode on a new server.
    """
    tokens: dict[str, str] = {}
    for name in names:
        try:
            tokens[name] = _token(source, name)
        except DirectusProblem:
            if not lenient:
                raise
    return tokens


def _token(source: dict[str, t.Any] | None, name: str) -> str:
    if not source:
        raise DirectusProblem(f"The user {name} is declared with a token, but tokens_from is not set.")
    place = f"{source['engine']}/{source['path']}/{name}"
    try:
        key = pathlib.Path(source["token_file"]).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise DirectusProblem(
            f"The Vault token in {source['token_file']} cannot be read: {getattr(error, 'strerror', 'no text')}."
            " The vault role writes it."
        ) from None
    address = f"{source['url'].rstrip('/')}/v1/{source['engine']}/data/{source['path']}/{name}"
    try:
        answer = json.loads(fetch(address, headers={"X-Vault-Token": key}, timeout=TIMEOUT))
        token = answer["data"]["data"].get("token")
    except HTTPError as error:
        raise DirectusProblem(f"{_refusal(error.code, name, place)}") from None
    except (URLError, OSError) as error:
        raise DirectusProblem(f"Vault at {source['url']} does not answer: {getattr(error, 'reason', error)}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise DirectusProblem(f"The server at {address} is not Vault.") from None
    if not isinstance(token, str) or len(token) < MINIMUM_LENGTH:
        raise DirectusProblem(
            f"Vault's {place} has no field token of at least {MINIMUM_LENGTH} characters. Write one: it becomes"
            f" the token of Directus's user {name}."
        )
    return token


def _refusal(status: int, name: str, place: str) -> str:
    if status == 404:
        return (
            f"Vault holds no token for Directus's user {name}: {place} is missing or was deleted. The vault role writes"
            " it only once. Write a new one."
        )
    if status == 403:
        return f"Vault refuses access to {place}. The token's policy must allow reading it."
    return f"Vault answered {status} for {place}. Check that it is unsealed."
