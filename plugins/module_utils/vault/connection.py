# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vault_* modules share: the connection to a Vault, its state, and how they end.

"Vault" is HashiCorp Vault or OpenBao throughout: the calls made here are the same on both.
"""

from __future__ import annotations

import secrets
import string
import time
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.openmates.server.plugins.module_utils import duration
from ansible_collections.openmates.server.plugins.module_utils.vault import api
from ansible_collections.openmates.server.plugins.module_utils.vault.api import (
    ACTIVE,
    SEALED,
    STANDBY,
    UNINITIALIZED,
    Api,
    VaultProblem,
    VaultUnreachable,
)

try:
    import hvac
    import requests
except ImportError:
    hvac = requests = None
    HVAC_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HVAC_IMPORT_ERROR = None

# Argument specs; plugins/doc_fragments/vault.py documents them by the same names.
CONNECTION: dict[str, t.Any] = {
    "url": {"type": "str", "default": ""},
    "gateway": {"type": "str", "default": ""},
    "deadline": {"type": "int", "default": 60},
}
CUSTODY: dict[str, t.Any] = {
    "keys_file": {"type": "str", "no_log": False},
    "keys_present": {"type": "bool", "default": False, "no_log": False},
}
#: Of a module that needs a root token, which it makes from the unseal shares.
ROOT: dict[str, t.Any] = {
    "root_url": {"type": "str", "default": ""},
    "root_container": {"type": "str", "default": ""},
    "shares": {"type": "list", "elements": "str", "no_log": True},
}
MANAGED: dict[str, t.Any] = {
    "access_file": {"type": "str"},
    "access_role": {"type": "str", "default": "openmates-manage"},
    "access_secret": {"type": "str", "no_log": True},
}

POLL_SECONDS = 0.1
CALL_SECONDS = 60

UNREACHABLE = "unreachable"

_GENERATED = string.ascii_letters + string.digits


def connect(url: str, token: str = "", timeout: int = 60) -> hvac.Client:
    """Return a client for the Vault at `url` that uses `token` and nothing else.

    A proxy, a netrc file or a token that the host keeps in its environment must not take part, so the session ignores
    them, and the token is never None (hvac would then look for one itself). `timeout` is in seconds, for each call.
    """
    session = requests.Session()
    session.trust_env = False
    return hvac.Client(url=url, token=token, timeout=timeout, session=session)


def state_of(client: hvac.Client) -> str:
    """Return UNINITIALIZED, SEALED, STANDBY, ACTIVE or FAILING. Raises VaultUnreachable and VaultProblem."""
    return Api(client.url, CALL_SECONDS).state()


def wait_for(client: hvac.Client, accepted: t.Container[str], deadline: float) -> str:
    """Poll until the state of the Vault is one of `accepted`, at most `deadline` seconds, and return it.

    Raises VaultProblem with the last state seen when the time is up.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            seen = state_of(client)
            problem = f"Vault at {client.url} is still {seen} after {deadline:g} s; see the log of its container."
        except VaultUnreachable as error:
            seen = UNREACHABLE
            problem = f"{error} Is the Vault container running? Waited {deadline:g} s."
        if seen in accepted:
            return seen
        if time.monotonic() >= end:
            raise VaultProblem(problem)
        time.sleep(POLL_SECONDS)


def answering_state(client: hvac.Client, deadline: float, check_mode: bool) -> str:
    """Return the state of the Vault, waiting up to `deadline` seconds until it answers.

    In check mode there may be nothing yet, which is a state like any other: UNREACHABLE is returned at once.
    """
    if check_mode:
        try:
            return state_of(client)
        except VaultUnreachable:
            return UNREACHABLE
    return wait_for(client, (UNINITIALIZED, SEALED, STANDBY, ACTIVE), deadline)


def submit_shares(client: hvac.Client, shares: list[str]) -> None:
    """Open a sealed Vault with exactly as many shares as it takes. Raises VaultProblem if they do not open it."""
    api.submit_shares(Api(client.url, CALL_SECONDS), shares)


def seconds(wanted: str | int) -> int:
    """Return a duration as Vault writes it in seconds. Raises VaultProblem if it is none."""
    try:
        return duration.seconds(wanted)
    except ValueError as error:
        raise VaultProblem(str(error)) from None


def generated(lengths: dict[str, int]) -> dict[str, str]:
    """Return a random value of the given length for each field."""
    return {name: "".join(secrets.choice(_GENERATED) for _ in range(length)) for name, length in lengths.items()}


def run(module: AnsibleModule, done: str, work: t.Callable[[AnsibleModule], dict], without_vault: dict) -> None:
    """Exit the module with what `work` returns, or fail with a sentence in which Vault was not `done` ("unsealed").

    In check mode a host that has no Vault or no hvac yet gives `without_vault`.
    """
    url, gateway = module.params["url"], module.params["gateway"]
    elsewhere = url and gateway and api.source_address(url) != gateway
    if module.check_mode and (not url or elsewhere or HVAC_IMPORT_ERROR):
        module.exit_json(**without_vault)
    if HVAC_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("hvac"), exception=HVAC_IMPORT_ERROR)
    if not url:
        module.fail_json(msg=f"url is empty: there is no Vault to be {done}.")
    if elsewhere:
        module.fail_json(
            msg=f"{url} is not on a network of this host's containers, where this host is {gateway}: there is no Vault"
            f" to be {done}. Is Docker running? Run site.yml, which starts it."
        )
    try:
        module.exit_json(**work(module))
    except VaultProblem as problem:
        module.fail_json(msg=str(problem))
    except (hvac.exceptions.VaultError, requests.exceptions.RequestException) as error:
        module.fail_json(msg=f"Vault could not be {done}: {error}")
