#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take over the keys and secrets of another Vault from an export of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_import
short_description: Take over the keys of transit and the secrets of kv from an export of another Vault
description:
  - Makes a root token from the unseal shares, restores each key with all of its versions, writes each secret, proves
    the result and revokes the token.
  - The export has, for each key and each of its versions that encrypts, a ciphertext, and an HMAC; and ciphertexts of
    the database. This Vault has to find the same texts, or the module fails.
  - A key and a field of a secret that this Vault has already are replaced; other ones stay. It can be repeated.
  - A snapshot would not do, because it needs the same storage and takes over tokens, logins and unseal shares too.
  - A module of our own because the root token must not leave the call.
options:
  src:
    description:
      - The export, on the host. Lines of JSON, each with one of C(key), C(secret) and C(sample).
    type: path
    required: true
  transit:
    description: Where the engine of the keys is.
    type: str
    default: transit
  kv:
    description: Where the engine of the secrets is, of version 2.
    type: str
    default: kv
  shares:
    description: The unseal shares. The action plugin takes them from O(keys_file), if it has them in plaintext.
    type: list
    elements: str
author: [The openmates.server contributors]
extends_documentation_fragment:
  - openmates.server.vault
  - openmates.server.vault.custody
  - openmates.server.vault.root
  - openmates.server.vault.state
attributes:
  check_mode:
    description: Reports that it would be taken over.
    support: full
"""

EXAMPLES = r"""
- name: Take over keys and secrets
  openmates.server.vault_import:
    url: http://172.18.0.5:8200
    src: /run/openmates-import/received/vault.jsonl
    keys_file: /home/operator/keys/prod1.yml
    state_directory: /var/lib/openmates
"""

RETURN = r"""
keys:
  description: How many keys were restored.
  returned: success, but in check mode
  type: int
secrets:
  description: The paths of the secrets that were written.
  returned: success, but in check mode
  type: list
  elements: str
proofs:
  description: How many ciphertexts and HMACs were found to be the same.
  returned: success, but in check mode
  type: int
samples:
  description: How many ciphertexts of the database among them.
  returned: success, but in check mode
  type: int
"""

import contextlib
import hashlib
import json
import pathlib
import typing as t
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import markers as vault_markers
from ansible_collections.openmates.server.plugins.module_utils.vault import tokens

KINDS = ("key", "secret", "sample")


class Import:
    """Puts an export into an open Vault."""

    def __init__(self, client: vault.hvac.Client, transit: str, kv: str) -> None:
        self.client, self.transit, self.kv = client, transit, kv
        self.keys = self.proofs = self.samples = 0
        self.secrets: list[str] = []

    def take(self, kind: str, about: dict[str, t.Any]) -> None:
        """One line of the export. Raises VaultProblem if the result is not the same."""
        {"key": self.key, "secret": self.secret, "sample": self.sample}[kind](about)

    def key(self, about: dict[str, t.Any]) -> None:
        name = about["name"]
        self.ask("restore", name, {"backup": about["backup"], "force": True})
        for proof in about["proofs"]:
            if "hmac" in proof:
                same = self.ask("hmac", name, {"input": proof["text"]})["hmac"] == proof["hmac"]
            else:
                asked = {field: proof[field] for field in ("ciphertext", "context") if field in proof}
                same = self.ask("decrypt", name, asked)["plaintext"] == proof["text"]
            self.prove(same, name)
        self.keys += 1

    def sample(self, about: dict[str, t.Any]) -> None:
        asked = {field: about[field] for field in ("ciphertext", "context")}
        text = self.ask("decrypt", about["key"], asked)["plaintext"]
        self.prove(hashlib.sha256(text.encode()).hexdigest() == about["sha256"], about["key"])
        self.samples += 1

    def secret(self, about: dict[str, t.Any]) -> None:
        kv, where = self.client.secrets.kv.v2, {"path": about["path"], "mount_point": self.kv}
        held: dict[str, t.Any] = {}
        with contextlib.suppress(vault.hvac.exceptions.InvalidPath):
            held = kv.read_secret_version(**where, raise_on_deleted_version=True)["data"]["data"] or {}
        wanted = {**held, **about["data"]}
        if wanted != held:
            kv.create_or_update_secret(**where, secret=wanted)
            self.secrets.append(about["path"])

    def ask(self, what: str, name: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            answer = self.client.adapter.post(f"/v1/{self.transit}/{what}/{quote(name)}", json=body)
        except vault.hvac.exceptions.VaultError as error:  # without its message, which may quote what it was given
            kind = type(error).__name__
            raise vault.VaultProblem(
                f"Vault refuses to {what} with the key {name} of the old Vault ({kind})."
            ) from None
        return answer["data"] if isinstance(answer, dict) else {}

    def prove(self, same: bool, name: str) -> None:
        if not same:
            raise vault.VaultProblem(f"The key {name} is not what it is in the old Vault.")
        self.proofs += 1

    def result(self) -> dict[str, t.Any]:
        return {"keys": self.keys, "secrets": self.secrets, "proofs": self.proofs, "samples": self.samples}


def lines(path: pathlib.Path) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The lines of an export. Raises VaultProblem."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                [(kind, about)] = json.loads(line).items()
                if kind not in KINDS:
                    raise ValueError(kind)
                yield kind, about
    except OSError as error:
        raise vault.VaultProblem(f"The export {path} cannot be read: {error.strerror}.") from error
    except ValueError:  # without its cause, which may quote a line
        raise vault.VaultProblem(f"The export {path} is damaged. Make it again.") from None


def take_over(module: AnsibleModule) -> dict:
    """Take over everything and return the result."""
    params = module.params
    if module.check_mode:
        return {"changed": True}
    markers = vault_markers.markers_of(params, module.check_mode)
    client = vault.connect(params["url"], timeout=params["deadline"])
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    markers.root.write("root")  # the next run revokes what a killed one leaves
    with tokens.network_of(module, params["root_container"]):
        maker = vault.connect(params["root_url"] or params["url"], timeout=params["deadline"])
        client.token = tokens.generate_root(maker, params["shares"])
    module.no_log_values.add(client.token)
    work = Import(client, params["transit"], params["kv"])
    try:
        for kind, about in lines(pathlib.Path(params["src"])):
            work.take(kind, about)
    finally:
        client.auth.token.revoke_self()
    return {"changed": True, **work.result()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.ROOT,
            **vault_markers.STATE,
            "src": {"type": "path", "required": True},
            "transit": {"type": "str", "default": "transit"},
            "kv": {"type": "str", "default": "kv"},
        },
        supports_check_mode=True,
    )
    vault.run(module, "filled", take_over, {"changed": True})


if __name__ == "__main__":
    main()
