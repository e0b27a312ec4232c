#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotate one secret in Vault's kv engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secret
short_description: Put new values into one secret in Vault, or destroy its old versions
description:
  - The two halves of a rotation, so that the services can take the new values in between.
  - New values become a new version. Fields that are not given keep their values.
  - Old versions are destroyed, not only deleted, so that the old values cannot be restored.
  - A module of our own because community.hashi_vault would need the managing identity's secret in a variable of the
    play, and has no module that destroys old versions.
options:
  path:
    description: The secret's path below O(engine).
    type: str
    required: true
  engine:
    description: The version 2 C(kv) engine.
    type: str
    default: kv
  step:
    description: C(write) a new version, or C(retire) all older ones than the latest.
    type: str
    choices: [write, retire]
    required: true
  fields:
    description: New values by field, for O(step=write). Only fields that the secret has.
    type: dict
    default: {}
  seeds:
    description:
      - All seeds of the inventory, as in M(openmates.server.vault_config), for O(step=write). An enforced one cannot be
        rotated. Without O(fields), a generated one gets new random values, made on the host and never shown.
    type: json
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.custody, openmates.server.vault.managed]
attributes:
  check_mode:
    description: Reports what would be done.
    support: full
"""

EXAMPLES = r"""
- name: Rotate a key
  openmates.server.vault_secret:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    access_file: /home/operator/keys/prod1.access.yml
    path: providers/openai
    step: write
    fields: {api_key: "{{ new_key }}"}
"""

RETURN = r"""
version:
  description: The latest version.
  returned: success
  type: int
retired:
  description: The versions that were, or in check mode would be, destroyed.
  returned: success
  type: list
  elements: int
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import seeds, tokens


def write(module: AnsibleModule, kv: t.Any, metadata: dict[str, t.Any]) -> dict:
    """Write the new version and return the result."""
    params = module.params
    where = {"path": params["path"], "mount_point": params["engine"]}
    seed = seeds.seeds_of(params["seeds"]).get(params["path"])
    if seed and seed.kind == seeds.ENFORCE:
        raise vault.VaultProblem(
            f"{seed.path} is enforced by the inventory (openmates_vault_seeds): change it there and run site.yml."
        )
    generates = seed and seed.kind == seeds.GENERATE and not params["fields"]
    new = vault.generated(seed.fields) if generates else params["fields"]
    module.no_log_values.update(str(value) for value in new.values())
    version = metadata["current_version"]
    try:
        held = kv.read_secret_version(**where, raise_on_deleted_version=True)["data"]["data"] or {}
    except vault.hvac.exceptions.InvalidPath:
        raise vault.VaultProblem(
            f"The latest version of {params['path']} was deleted: there is nothing to rotate."
        ) from None
    module.no_log_values.update(str(value) for value in held.values() if len(str(value)) > 3)
    unknown = sorted(set(new) - set(held))
    if unknown or not new:
        raise vault.VaultProblem(
            f"{params['path']} has no field {', '.join(unknown)}"
            if unknown
            else f"No field of {params['path']} is named"
        ) from None
    if not module.check_mode:
        version = kv.create_or_update_secret(**where, secret={**held, **new}, cas=version)["data"]["version"]
    return {"changed": True, "version": version, "retired": []}


def retire(module: AnsibleModule, kv: t.Any, metadata: dict[str, t.Any]) -> dict:
    """Destroy the older versions and return the result."""
    latest = metadata["current_version"]
    old = [int(n) for n, version in metadata["versions"].items() if int(n) < latest and not version["destroyed"]]
    if old and not module.check_mode:
        kv.destroy_secret_versions(path=module.params["path"], versions=old, mount_point=module.params["engine"])
    return {"changed": bool(old), "version": latest, "retired": sorted(old)}


def rotate(module: AnsibleModule) -> dict:
    """Do one half of a rotation."""
    params = module.params
    vault.wait_for(vault.connect(params["url"], timeout=params["deadline"]), (vault.ACTIVE,), params["deadline"])
    client = tokens.managing_client(params)
    kv = client.secrets.kv.v2
    try:
        try:
            metadata = kv.read_secret_metadata(path=params["path"], mount_point=params["engine"])["data"]
        except vault.hvac.exceptions.InvalidPath:
            raise vault.VaultProblem(f"There is no secret {params['path']} to rotate: seed it first.") from None
        except vault.hvac.exceptions.Forbidden:
            raise vault.VaultProblem(
                f"{params['path']} is outside of what may be rotated. "
                "Begin its path with providers/ or system/ (the role's vault_seed_folders)."
            ) from None
        return {"write": write, "retire": retire}[params["step"]](module, kv, metadata)
    finally:
        client.auth.token.revoke_self()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.MANAGED,
            "path": {"type": "str", "required": True},
            "engine": {"type": "str", "default": "kv"},
            "step": {"type": "str", "choices": ["write", "retire"], "required": True},
            "fields": {"type": "dict", "default": {}, "no_log": True},
            **seeds.SEEDS,
        },
        supports_check_mode=True,
    )
    vault.run(module, "rotated", rotate, {"changed": True, "version": 0, "retired": []})


if __name__ == "__main__":
    main()
