#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile what is inside Vault: who may do what, engines, policies, audit, token roles, values of secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_config
short_description: Reconcile Vault's engines, policies, audit, service tokens and seeds in one call
description:
  - Brings an open HashiCorp Vault or OpenBao to the declared state. Changes only what differs, and nothing that is not
    declared.
  - Works with an identity of its own, an AppRole whose policy lets it manage what is declared here and no more. Only
    O(elevate) may use a root token, to create or repair that identity. A root token is revoked in the same call.
  - If Vault is not open, or that identity is not as declared, changes nothing and reports it in RV(state). A role can
    call this module first, and M(openmates.server.vault_init), M(openmates.server.vault_unseal) and O(elevate) only
    if they are needed.
  - Results and diffs hold names, never a value or a token.
  - A module of our own because community.hashi_vault has none for policies, engines, roles and tokens, and because
    the identity's secret is handed to this call only. One module for all of it because each remote call costs more
    than everything Vault does in it.
options:
  elevate:
    description:
      - Create or repair the managing identity with the keys file's root token or, once that is revoked, with one that
        the unseal shares generate. Afterwards every root token is revoked.
    type: bool
    default: false
  access_policy:
    description: What the managing identity may do, as HCL.
    type: str
    required: true
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
  audit:
    description: Audit devices to have, where the engine takes them over its API. OpenBao has them in its configuration.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Its name.
        type: str
        required: true
      type:
        description: Its type.
        type: str
        required: true
      options:
        description: The type's options.
        type: dict
        default: {}
  policies:
    description: Names and texts (HCL) of the policies to have.
    type: dict
    default: {}
  roles:
    description:
      - AppRoles to have, one for each token that is not a person's. Their tokens get no default policy.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, which is its role id as well.
        type: str
        required: true
      policies:
        description: What its tokens may do, by policy.
        type: list
        elements: str
        required: true
      period:
        description: For how long a token lives after each renewal, like C(768h). Without, tokens live ten minutes.
        type: str
      credential:
        description: Encrypted systemd credential on the host that lets a unit there log in as this role.
        type: path
      file:
        description: The file that this unit keeps a token in. Looked at, never written, except for owner and mode.
        type: path
      uid:
        description: Owner of the file, by number because the user may exist only inside a container.
        type: int
        default: 0
      gid:
        description: Group of the file, by number.
        type: int
        default: 0
  seeds:
    description:
      - Secrets by path, as a text (C(to_json)), so that a short value is not masked wherever it occurs in the result.
      - >-
        An entry C({ensure: {field: value}}), or plain fields, is written if its path never held anything;
        C({enforce: {field: value}}) wins over Vault's values, other fields stay; C({generate: {field: length}}) makes
        random values here, once, for a path that never held anything.
      - Compared and written in this call and not with C(community.hashi_vault), for three reasons. Each of its modules
        is a call of its own, with a login of its own, for one path, on each run. Fields that stay have to be read
        first, and the answer of M(community.hashi_vault.vault_kv2_get) has the values, which the most verbose output of
        the ssh connection prints. A generated value would come from the controller.
    type: json
  seeds_engine:
    description: The version 2 C(kv) engine that the seeds are in.
    type: str
    default: kv
  shares:
    description: Unseal shares for O(elevate) if the keys file has none in plaintext.
    type: list
    elements: str
  root_token:
    description: Set by the action plugin.
    type: str
requirements:
  - systemd-creds on the host, for O(roles[].credential)
author: [The openmates.server contributors]
extends_documentation_fragment:
  - openmates.server.vault
  - openmates.server.vault.custody
  - openmates.server.vault.managed
  - openmates.server.vault.root
  - openmates.server.vault.state
attributes:
  check_mode:
    description: Reports what would change, also where there is no Vault yet.
    support: full
  diff_mode:
    description: Names only.
    support: full
"""

EXAMPLES = r"""
- name: Reconcile Vault
  openmates.server.vault_config:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    access_file: /home/operator/keys/prod1.access.yml
    access_policy: "{{ lookup('ansible.builtin.template', 'openmates-manage.hcl.j2') }}"
    state_directory: /var/lib/openmates
    engines:
      - {path: transit, type: transit}
      - {path: kv, type: kv, version: 2}
    policies:
      api-service: "{{ lookup('ansible.builtin.file', 'policies/api-service.hcl') }}"
    roles:
      - name: openmates-api
        policies: [api-service]
        period: 768h
"""

RETURN = r"""
state:
  description:
    - C(ready) if Vault is open and reconciled (in check mode, compared).
    - C(uninitialized), C(sealed), or in check mode C(unreachable).
    - C(interrupted) if the marker of an interrupted initialisation is there, C(no_keys) if Vault is open but without a
      keys file. M(openmates.server.vault_init) deals with both.
    - C(no_access) if the managing identity is missing or not as declared, or Vault was restored. O(elevate) deals with
      it.
  returned: success
  type: str
changes:
  description: What was changed, or would be, by name.
  returned: success
  type: list
  elements: str
tokens_due:
  description: Files without a token as declared, which the host's unit has to put there.
  returned: success
  type: list
  elements: str
seeds_differing:
  description: Fields of seeds that Vault keeps with another value than the inventory's, by name.
  returned: success
  type: list
  elements: str
  sample: [api_key of kv/providers/openai]
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.arguments import (
    FLAG,
    MAPPING,
    NUMBER,
    PATH,
    REQUIRED,
    TEXT,
    WORDS,
    several,
)
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import markers as vault_markers
from ansible_collections.openmates.server.plugins.module_utils.vault import seeds
from ansible_collections.openmates.server.plugins.module_utils.vault.config.access import Access
from ansible_collections.openmates.server.plugins.module_utils.vault.config.logins import Logins
from ansible_collections.openmates.server.plugins.module_utils.vault.config.seeds import Seeds
from ansible_collections.openmates.server.plugins.module_utils.vault.config.settings import Settings

READY = "ready"
INTERRUPTED = "interrupted"
NO_KEYS = "no_keys"
NO_ACCESS = "no_access"


def reconcile(module: AnsibleModule) -> dict:
    """Reconcile Vault if it is open, and return the result."""
    params = module.params
    markers = vault_markers.markers_of(params, module.check_mode)
    client = vault.connect(params["url"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], module.check_mode)
    if state == vault.UNREACHABLE:
        return nothing_there_yet()
    if state in (vault.UNINITIALIZED, vault.SEALED):
        return not_open(state)
    if markers.init.present():
        return not_open(INTERRUPTED)
    if not params["keys_present"]:
        return not_open(NO_KEYS)
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    return manage(module, markers)


def manage(module: AnsibleModule, markers: vault_markers.Markers) -> dict:
    """Reconcile an open Vault as the managing identity, after mending that if it may."""
    params = module.params
    access = Access(module, markers)
    client = access.log_in()
    fault = access.fault(client)
    changes = []
    if fault and not params["elevate"]:
        log_out(client)
        return not_open(NO_ACCESS)
    if fault:
        changes.append(f"login {params['access_role']}: repaired with a root token, because {fault}")
        if not module.check_mode:
            log_out(client)
            access.elevate()
            client = access.log_in()
    if client is None:  # in check mode there is no other way in
        return finish(module, changes, [], [])
    parts = Settings(module, client), Logins(module, client), Seeds(module, client)
    try:
        for part in parts:
            part.run()
        if markers.root.present():
            count = "" if module.check_mode else f"{access.revoke_roots(client)} "
            changes.append(f"root tokens: {count}revoked")
    except vault.hvac.exceptions.Forbidden:
        if not (fault and module.check_mode):
            raise  # else the identity would be repaired first, and what it may not read is not reported
    finally:
        log_out(client)
    _, logins, seeded = parts
    return finish(module, changes + [change for part in parts for change in part.changes], logins.due, seeded.differing)


def log_out(client: vault.hvac.Client | None) -> None:
    """Revoke our own token, which would live for minutes yet."""
    if client is not None:
        with contextlib.suppress(vault.hvac.exceptions.Forbidden):  # a policy changed by hand may forbid even that
            client.auth.token.revoke_self()


def finish(module: AnsibleModule, changes: list[str], tokens_due: list[str], seeds_differing: list[str]) -> dict:
    """Return the result for a Vault that was looked into."""
    result = {
        "changed": bool(changes),
        "state": READY,
        "changes": changes,
        "tokens_due": tokens_due,
        "seeds_differing": seeds_differing,
    }
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in changes)}
    return result


def not_open(state: str) -> dict:
    """Return the result for a Vault that cannot be read. Another module acts on it, so this one reports no change."""
    return {"changed": False, "state": state, "changes": [], "tokens_due": []}


def nothing_there_yet() -> dict:
    """Return the result of check mode for a host without a Vault."""
    return {**not_open(vault.UNREACHABLE), "changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.MANAGED,
            "elevate": FLAG | {"default": False},
            "access_policy": TEXT | REQUIRED,
            "root_url": TEXT | {"default": ""},
            "root_container": TEXT | {"default": ""},
            **vault_markers.STATE,
            "engines": several(path=TEXT | REQUIRED, type=TEXT | REQUIRED, version=NUMBER),
            "audit": several(path=TEXT | REQUIRED, type=TEXT | REQUIRED, options=MAPPING | {"default": {}}),
            "policies": MAPPING | {"default": {}},
            "roles": several(
                name=TEXT | REQUIRED,
                policies=WORDS | REQUIRED,
                period=TEXT,
                credential=PATH,
                file=PATH,
                uid=NUMBER | {"default": 0},
                gid=NUMBER | {"default": 0},
            ),
            **seeds.SEEDS,
            "seeds_engine": TEXT | {"default": "kv"},
            "shares": WORDS | {"no_log": True},
            "root_token": TEXT | {"no_log": True},
        },
        supports_check_mode=True,
    )
    vault.run(module, "configured", reconcile, nothing_there_yet())


if __name__ == "__main__":
    main()
