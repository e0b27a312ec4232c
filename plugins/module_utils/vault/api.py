# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both a run and the host's own units do with Vault: read its state, unseal it, check the services' token.

Standard library only, because the host's program uses this file too: a server whose Python packages are being replaced
still has to unseal. "Vault" is HashiCorp Vault or OpenBao: the calls made here are the same on both.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
import typing as t
import urllib.parse

CALL_SECONDS = 10

# Any other unsealing, usually by the host's own unit, ends our attempt; and a Vault that was initialised a moment ago
# takes shares and stays sealed until it has elected itself, which takes up to ten seconds. So there are many attempts.
UNSEAL_TRIES = 40
REFUSED_TRIES = 5
UNSEAL_PAUSE_SECONDS = 0.5

UNINITIALIZED = "uninitialized"
SEALED = "sealed"
STANDBY = "standby"
ACTIVE = "active"
FAILING = "failing"

# Answers of /v1/sys/health. 472 and 473 are replicas; a lone server that is not active yet says 429. 500 is for a
# moment while its storage is replaced.
_HEALTH = {200: ACTIVE, 429: STANDBY, 472: STANDBY, 473: STANDBY, 500: FAILING, 501: UNINITIALIZED, 503: SEALED}
_REFUSED = 400


class VaultProblem(Exception):
    """A message for the operator, without any secret."""


class VaultUnreachable(VaultProblem):
    """Nothing that speaks Vault's API answers at the address."""


class SharesRefused(VaultProblem):
    """The unseal shares are not those of this Vault."""


def source_address(url: str) -> str:
    """Return the address of this host that it would reach the URL's host from, empty if it has no way there."""
    parts = urllib.parse.urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname, parts.port or 8200))  # of a datagram socket: nothing is sent
        except OSError:
            return ""
        return probe.getsockname()[0]


class Api:
    """The API of the Vault at a URL. No proxy takes part, and a token only where a call names one."""

    def __init__(self, url: str, seconds: float = CALL_SECONDS) -> None:
        """`seconds` is the time limit of each call."""
        parts = urllib.parse.urlsplit(url)
        self.url = url
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address = (parts.hostname, parts.port or 8200)
        self._seconds = seconds

    def call(
        self, method: str, path: str, body: dict[str, t.Any] | None = None, token: str = ""
    ) -> tuple[int, dict[str, t.Any]]:
        """Return the status and the answer, which is empty if it is no JSON object. Raises VaultUnreachable."""
        connection = self._connection(*self._address, timeout=self._seconds)
        headers = {"X-Vault-Token": token} if token else {}
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise VaultUnreachable(f"Nothing answers at {self.url}: {reason}.") from error
        finally:
            connection.close()
        try:
            found = json.loads(content)
        except ValueError:
            found = {}
        return status, found if isinstance(found, dict) else {}

    def state(self) -> str:
        """Return UNINITIALIZED, SEALED, STANDBY, ACTIVE or FAILING.

        Raises VaultUnreachable when nothing answers, VaultProblem when something answers that is not a Vault.
        """
        status, _ = self.call("HEAD", "sys/health")
        try:
            return _HEALTH[status]
        except KeyError:
            raise VaultProblem(
                f"{self.url}/v1/sys/health answers with status {status}, which no Vault gives."
            ) from None


def submit_shares(api: Api, shares: list[str]) -> None:
    """Unseal Vault with exactly as many shares as it needs, although another unsealing may be under way.

    Raises VaultProblem if they do not unseal it, and resets the attempt then.
    """
    refused = clearly_refused = 0
    for number in range(UNSEAL_TRIES):
        if number:
            time.sleep(UNSEAL_PAUSE_SECONDS)
        nonces = []  # the same for all shares of one attempt
        problem = VaultProblem("Vault took the unseal shares and is still sealed; see the log of its container.")
        for step in ({"reset": True}, *({"key": share} for share in shares)):
            status, answer = api.call("PUT", "sys/unseal", step)
            if status == _REFUSED:
                problem = SharesRefused(
                    "The unseal shares do not open this Vault: they belong to another Vault, or at least one is"
                    " damaged."
                )
                # Refused at the last share, and no other attempt began or ended before it. Only one that came just
                # then would not show here, so it takes two such refusals.
                refused += 1
                clearly_refused += len(nonces) == len(shares) - 1 and len(set(nonces)) <= 1
                break
            if status > _REFUSED:
                problem = VaultProblem(f"Vault at {api.url} answers an unseal share with status {status}.")
                break
            if "key" in step:
                nonces.append(answer.get("nonce"))
        if status <= _REFUSED and not _sealed(api):
            return
        if clearly_refused == 2 or refused == REFUSED_TRIES:
            break
    if api.call("PUT", "sys/unseal", {"reset": True})[0] == _REFUSED:
        return  # it was unsealed by another one just now
    raise problem


def _sealed(api: Api) -> bool:
    status, answer = api.call("GET", "sys/seal-status")
    if status >= _REFUSED or "sealed" not in answer:
        raise VaultProblem(f"Vault at {api.url} does not report whether it is sealed (status {status}).")
    return answer["sealed"]


def token_fault(found: dict[str, t.Any] | None, role: str, policies: t.Iterable[str], period: int) -> str | None:
    """Return why a token is not one of that role as declared, or None.

    `found` is Vault's description of it, None if it is invalid; `period` is in seconds.
    """
    if found is None:
        return "is not valid"
    if not found.get("orphan"):
        return "is not an orphan"
    if found.get("period") != period:
        return "has another period"
    if set(found.get("policies") or []) != set(policies):
        return "has other policies"
    if (found.get("meta") or {}).get("role_name") != role:
        return "was not made by this server's login"
    return None
