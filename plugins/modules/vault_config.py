#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile what is inside Vault: secrets engines, policies, service tokens and first values of secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_config
short_description: Reconcile Vault's engines, policies, service tokens and seeds in one call
description:
  - Looks at a HashiCorp Vault or OpenBao and, if it is open, brings secrets engines, policies, service tokens and seeds
    to the declared state. Changes only what differs and leaves alone what is not declared.
  - If it is not open, changes nothing and says so in RV(state). A role can so begin with this module and come to
    M(openmates.server.vault_init) and M(openmates.server.vault_unseal) only when there is something for them to do.
  - One module for all four because each remote call costs more than everything Vault does in it.
  - Results and diffs hold names, never a value or a token.
options:
  url:
    description: Address of Vault's API as the host reaches it. May be empty in check mode, when there is no Vault yet.
    type: str
    required: true
  token:
    description: Token to work with. Empty if there is none, which RV(state) then tells.
    type: str
    default: ""
  marker:
    description: The marker file of M(openmates.server.vault_init) on the host. While it exists nothing is changed.
    type: path
  engines:
    description: Secrets engines to have.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is mounted.
        type: str
        required: true
      type:
        description: Its type.
        type: str
        required: true
      version:
        description: For C(kv), its version.
        type: int
  policies:
    description: Names and texts (HCL) of the policies to have.
    type: dict
    default: {}
  tokens:
    description:
      - Service tokens to deliver as files on the host. Each is periodic and an orphan, so that it neither ends after
        the longest lease nor with the token that made it. A file's token is kept as long as it is what is declared.
    type: list
    elements: dict
    default: []
    suboptions:
      file:
        description: Absolute path of the file. A missing folder is made, for its owner only.
        type: path
        required: true
      policies:
        description: Its policies. The default policy is not added.
        type: list
        elements: str
        required: true
      period:
        description: For how long it lives after each renewal, like C(768h).
        type: str
        default: 768h
      uid:
        description: Owner of the file, by number because the user may exist only inside a container.
        type: int
        default: 0
      gid:
        description: Group of the file, by number.
        type: int
        default: 0
      display_name:
        description: Name of the token in Vault's audit log.
        type: str
        default: service
  seeds:
    description:
      - First values of secrets, by path below O(seeds_engine). Each is a mapping. One is written only if its path never
        held anything, so that a value rotated or deleted in Vault stays so.
    type: dict
    default: {}
  seeds_engine:
    description: The version 2 C(kv) engine that the seeds go to.
    type: str
    default: kv
  deadline:
    description: Seconds to wait for Vault to answer or to become active.
    type: int
    default: 60
requirements:
  - hvac (Debian's python3-hvac) on the host
author:
  - The openmates.server contributors
attributes:
  check_mode:
    description: Says what would be changed, also where there is no Vault yet.
    support: full
  diff_mode:
    description: Names only.
    support: full
"""

EXAMPLES = r"""
- name: Reconcile Vault
  openmates.server.vault_config:
    url: http://172.18.0.5:8200
    token: "{{ keys.root_token }}"
    engines:
      - {path: transit, type: transit}
      - {path: kv, type: kv, version: 2}
    policies:
      api-service: "{{ lookup('ansible.builtin.file', 'policies/api-service.hcl') }}"
    tokens:
      - file: /opt/openmates/secrets/vault-data/api.token
        policies: [api-service]
        uid: 1000
    seeds:
      providers/sample: {api_key: "{{ sample_api_key }}"}
"""

RETURN = r"""
state:
  description:
    - C(ready) if Vault is open and reconciled (in check mode, compared).
    - C(uninitialized), C(sealed), C(unreachable) (check mode only) as they say.
    - C(interrupted) if the marker of an interrupted initialisation is there, C(no_token) if Vault is open but O(token)
      is empty. M(openmates.server.vault_init) deals with both.
  returned: success
  type: str
changes:
  description: What was changed, or would be, by name.
  returned: success
  type: list
  elements: str
tokens_issued:
  description: Files that got a new token, so that their readers have to pick it up.
  returned: success
  type: list
  elements: str
"""

import contextlib
import os
import pathlib
import stat
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import atomic, vault

READY = "ready"
INTERRUPTED = "interrupted"
NO_TOKEN = "no_token"  # noqa: S105

TOKEN_MODE = 0o400


def engine_fault(wanted: dict[str, t.Any], mounted: dict[str, t.Any] | None) -> str | None:
    """Return None if the engine is as wanted, "missing", or raise VaultProblem if another one is in its place."""
    if mounted is None:
        return "missing"
    version = (mounted.get("options") or {}).get("version")
    found = f"{mounted['type']} version {version}" if version else mounted["type"]
    if mounted["type"] != wanted["type"] or (wanted["version"] and str(wanted["version"]) != version):
        raise vault.VaultProblem(
            f"The path {wanted['path']} in Vault already holds another engine ({found}). It is not replaced, because"
            " its secrets would go with it: move it away with `secrets move`, or give the path up here."
        )
    return None


def token_fault(wanted: dict[str, t.Any], found: dict[str, t.Any] | None) -> str | None:
    """Return why a token is not the one wanted, or None. `found` is Vault's description of it, None if invalid."""
    if found is None:
        return "is not valid"
    if not found.get("orphan"):
        return "is not an orphan"
    if found.get("period") != vault.seconds(wanted["period"]):
        return "has another period"
    if set(found.get("policies") or []) != set(wanted["policies"]):
        return "has other policies"
    return None


class Reconciler:
    """Brings an open Vault to the declared state, or only notes what differs in check mode."""

    def __init__(self, module: AnsibleModule, client: vault.hvac.Client) -> None:
        """`client` has to hold a token that may manage all that the module's parameters declare."""
        self.module = module
        self.params = module.params
        self.client = client
        self.check = module.check_mode
        self.changes: list[str] = []
        self.tokens_issued: list[str] = []

    def run(self) -> None:
        """Reconcile everything. Raises VaultProblem."""
        try:
            self.client.auth.token.lookup_self()
        except vault.hvac.exceptions.Forbidden:
            raise vault.VaultProblem(
                "Vault does not accept the token it is managed with: it was revoked, or belongs to another Vault."
            ) from None
        self.engines()
        self.policies()
        for wanted in self.params["tokens"]:
            self.token(wanted)
        self.seeds()

    def engines(self) -> None:
        """Mount the engines that are missing."""
        mounted = self.client.sys.list_mounted_secrets_engines()["data"] if self.params["engines"] else {}
        for wanted in self.params["engines"]:
            if not engine_fault(wanted, mounted.get(wanted["path"].strip("/") + "/")):
                continue
            self.changes.append(f"engine {wanted['path']}: enabled")
            if not self.check:
                options = {"version": str(wanted["version"])} if wanted["version"] else None
                self.client.sys.enable_secrets_engine(wanted["type"], path=wanted["path"], options=options)

    def policies(self) -> None:
        """Write the policies whose text differs."""
        for name, text in self.params["policies"].items():
            try:
                found = self.client.sys.read_acl_policy(name)["data"]["policy"]
            except vault.hvac.exceptions.InvalidPath:
                found = None
            if found is not None and found.strip() == str(text).strip():
                continue
            self.changes.append(f"policy {name}: {'created' if found is None else 'updated'}")
            if not self.check:
                self.client.sys.create_or_update_acl_policy(name, str(text))

    def token(self, wanted: dict[str, t.Any]) -> None:
        """Keep the token in its file if it is as wanted, else issue a new one; put owner and mode right."""
        vault.seconds(wanted["period"])  # refuses nonsense before a token is made
        path = pathlib.Path(wanted["file"])
        value, status = self.read_token(path)
        fault = token_fault(wanted, self.describe(value)) if value else "is missing"
        if fault:
            self.changes.append(f"token in {path}: issued, because it {fault}")
            self.tokens_issued.append(str(path))
            if not self.check:
                self.issue(wanted)
        elif (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (
            wanted["uid"],
            wanted["gid"],
            TOKEN_MODE,
        ):
            self.changes.append(f"token in {path}: owner and mode put right")
            if not self.check:
                atomic.write_atomically(path, value.encode(), TOKEN_MODE, wanted["uid"], wanted["gid"])

    def read_token(self, path: pathlib.Path) -> tuple[str | None, os.stat_result | None]:
        """Return what the token file holds and its status; None, None if there is no such regular file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None, None
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            value = file.read().strip()
            if not value:
                return None, None
            self.module.no_log_values.add(value)
            return value, os.fstat(file.fileno())

    def describe(self, token: str) -> dict[str, t.Any] | None:
        """Return Vault's description of a token, or None if the token is not valid.

        Asked with our own token: a token's own lookup needs a policy, and a mistake there must not look like an invalid
        token.
        """
        try:
            return self.client.auth.token.lookup(token)["data"]
        except vault.hvac.exceptions.VaultError as error:
            if isinstance(error, (vault.hvac.exceptions.Forbidden, vault.hvac.exceptions.InvalidPath)):
                return None
            raise

    def issue(self, wanted: dict[str, t.Any]) -> None:
        """Create a token and deliver it. One that cannot be delivered is revoked again."""
        value = self.client.auth.token.create_orphan(
            policies=wanted["policies"],
            period=wanted["period"],
            display_name=wanted["display_name"],
            no_default_policy=True,
            renewable=True,
        )["auth"]["client_token"]
        self.module.no_log_values.add(value)
        path = pathlib.Path(wanted["file"])
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
                os.chown(path.parent, wanted["uid"], wanted["gid"])
                path.parent.chmod(0o700)
            atomic.write_atomically(path, value.encode(), TOKEN_MODE, wanted["uid"], wanted["gid"])
        except OSError as error:
            with contextlib.suppress(vault.hvac.exceptions.VaultError):
                self.client.auth.token.revoke(value)
            raise vault.VaultProblem(f"The token cannot be written to {path}: {error.strerror}.") from error

    def seeds(self) -> None:
        """Write the seeds whose path never held anything."""
        for path, values in self.params["seeds"].items():
            if not isinstance(values, dict) or not values:
                raise vault.VaultProblem(f"The seed {path} has to be a mapping of names to values.")
            if not self.seeded(path):
                self.changes.append(f"seed {self.params['seeds_engine']}/{path}: written")
                if not self.check:
                    self.write_seed(path, values)

    def seeded(self, path: str) -> bool:
        """Return whether the path holds or held something. Asks for metadata, so no value is read."""
        try:
            self.patiently(
                self.client.secrets.kv.v2.read_secret_metadata, path=path, mount_point=self.params["seeds_engine"]
            )
        except vault.hvac.exceptions.InvalidPath:
            return False
        return True

    def write_seed(self, path: str, values: dict[str, t.Any]) -> None:
        """Write a first version, which Vault refuses (check-and-set 0) if somebody was faster."""
        self.patiently(
            self.client.secrets.kv.v2.create_or_update_secret,
            path=path,
            secret=values,
            cas=0,
            mount_point=self.params["seeds_engine"],
        )

    def patiently(self, call: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """Call, and again while a kv engine says that it is still being set up, as a new one may for a moment."""
        end = time.monotonic() + self.params["deadline"]
        while True:
            try:
                return call(**arguments)
            except vault.hvac.exceptions.InvalidRequest as error:
                if "Upgrading from non-versioned" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(vault.POLL_SECONDS)


def reconcile(module: AnsibleModule) -> dict:
    """Look at Vault, reconcile it if it is open, and return the result."""
    params = module.params
    client = vault.connect(params["url"], params["token"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], module.check_mode)
    if state == vault.UNREACHABLE:
        return nothing_there_yet()
    if state in (vault.UNINITIALIZED, vault.SEALED):
        return not_open(state)
    if params["marker"] and vault.read_marker(pathlib.Path(params["marker"])) is not None:
        return not_open(INTERRUPTED)
    if not params["token"]:
        return not_open(NO_TOKEN)
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    reconciler = Reconciler(module, client)
    reconciler.run()
    changes = reconciler.changes
    result = {
        "changed": bool(changes),
        "state": READY,
        "changes": changes,
        "tokens_issued": reconciler.tokens_issued,
    }
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in changes)}
    return result


def not_open(state: str) -> dict:
    """Return the result for a Vault that cannot be looked into; somebody else's turn, so no change."""
    return {"changed": False, "state": state, "changes": [], "tokens_issued": []}


def nothing_there_yet() -> dict:
    """Return what check mode says about a host without a Vault."""
    return {**not_open(vault.UNREACHABLE), "changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "marker": {"type": "path"},
            "engines": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "type": {"type": "str", "required": True},
                    "version": {"type": "int"},
                },
            },
            "policies": {"type": "dict", "default": {}},
            "tokens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {
                    "file": {"type": "path", "required": True},
                    "policies": {"type": "list", "elements": "str", "required": True},
                    "period": {"type": "str", "default": "768h"},
                    "uid": {"type": "int", "default": 0},
                    "gid": {"type": "int", "default": 0},
                    "display_name": {"type": "str", "default": "service"},
                },
            },
            "seeds": {"type": "dict", "default": {}, "no_log": True},
            "seeds_engine": {"type": "str", "default": "kv"},
            "deadline": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    vault.run(module, "configured", reconcile, nothing_there_yet())


if __name__ == "__main__":
    main()
