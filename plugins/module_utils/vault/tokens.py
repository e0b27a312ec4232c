# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: logging in, making a root token from the shares, revoking."""

from __future__ import annotations

import base64
import contextlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import custody


def log_in(url: str, role: str, secret_id: str, timeout: int) -> vault.hvac.Client | None:
    """Return a client with a short-lived token of the AppRole role, or None if Vault does not know that secret.

    The role's id is its name: what is secret about a login is the secret id.
    """
    client = vault.connect(url, timeout=timeout)
    try:
        answer = client.auth.approle.login(role_id=role, secret_id=secret_id)
    except (vault.hvac.exceptions.InvalidRequest, vault.hvac.exceptions.InvalidPath, vault.hvac.exceptions.Forbidden):
        return None
    client.token = answer["auth"]["client_token"]
    return client


def log_in_as_manager(params: dict[str, t.Any]) -> vault.hvac.Client | None:
    """Return a client of the managing identity, or None if there is none that Vault knows."""
    secret = params["access_secret"]
    return log_in(params["url"], params["access_role"], secret, params["deadline"]) if secret else None


def managing_client(params: dict[str, t.Any]) -> vault.hvac.Client:
    """Return a client of the managing identity. Raises VaultProblem if there is none that Vault knows."""
    client = log_in_as_manager(params)
    if client is None:
        raise vault.VaultProblem("Vault refuses the login of the managing identity. Run site.yml, which repairs it.")
    return client


@contextlib.contextmanager
def network_of(module: AnsibleModule, container: str) -> t.Iterator[None]:
    """Be inside a container's network for a while, where its loopback address is. An empty name: stay where we are."""
    if not container:
        yield
        return
    code, pid, _ = module.run_command(["docker", "inspect", "--format", "{{.State.Pid}}", container])
    if code or pid.strip() in ("", "0"):
        raise vault.VaultProblem(f"The container {container} does not run, so no root token can be made in it.")
    ours, theirs = (os.open(f"/proc/{process}/ns/net", os.O_RDONLY) for process in ("self", pid.strip()))
    try:
        os.setns(theirs, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(ours, os.CLONE_NEWNET)
        os.close(ours)
        os.close(theirs)


def generate_root(client: vault.hvac.Client, shares: list[str]) -> str:
    """Make a root token from the unseal shares. Raises VaultProblem if they do not allow it.

    `client` has to talk to a listener that takes this call; OpenBao's usual one answers it with 405.
    """
    path = "/v1/sys/generate-root/attempt"
    try:
        client.adapter.delete(path)  # left by a killed run, or of another operator, who may be interrupted
        attempt = client.adapter.put(path, json={})
        if len(set(shares)) < attempt["required"]:
            client.adapter.delete(path)
            raise vault.VaultProblem(
                f"A root token needs {attempt['required']} different unseal shares, but only {len(set(shares))} are"
                " at hand."
            )
        answer = {}
        for share in list(dict.fromkeys(shares))[: attempt["required"]]:
            update = {"key": share, "nonce": attempt["nonce"]}
            answer = client.adapter.put("/v1/sys/generate-root/update", json=update)
    except vault.hvac.exceptions.InvalidRequest as error:
        with contextlib.suppress(vault.hvac.exceptions.VaultError):
            client.adapter.delete(path)
        raise vault.VaultProblem(
            "The unseal shares do not make a root token: they belong to another Vault, or at least one is damaged."
        ) from error
    except vault.hvac.exceptions.VaultError as error:
        raise vault.VaultProblem(f"Vault at {client.url} makes no root token: {error}") from error
    encoded = answer["encoded_token"]
    hidden = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return custody.with_pad(hidden, attempt["otp"].encode()).decode()


def tokens(client: vault.hvac.Client) -> t.Iterator[dict[str, t.Any]]:
    """Yield Vault's description of every token there is; one that ends meanwhile is left out."""
    for accessor in client.auth.token.list_accessors()["data"]["keys"]:
        with contextlib.suppress(
            vault.hvac.exceptions.Forbidden, vault.hvac.exceptions.InvalidRequest, vault.hvac.exceptions.InvalidPath
        ):
            yield client.auth.token.lookup_accessor(accessor)["data"]


def revoke(client: vault.hvac.Client, doomed: t.Callable[[dict[str, t.Any]], bool]) -> int:
    """Revoke the tokens of which `doomed` is true, our own never, and return how many there were."""
    own = client.auth.token.lookup_self()["data"]["accessor"]
    count = 0
    for token in list(tokens(client)):
        if token["accessor"] != own and doomed(token):
            with contextlib.suppress(
                vault.hvac.exceptions.InvalidRequest, vault.hvac.exceptions.InvalidPath
            ):  # it just ended
                client.auth.token.revoke_accessor(token["accessor"])
            count += 1
    return count
