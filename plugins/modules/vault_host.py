#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the units with which a host unseals its Vault and keeps the services' token valid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_host
short_description: Equip a host to unseal its Vault and to keep the services' token valid
description:
  - Writes the program that systemd units run for Vault with the units, brings them to their state, and keeps as many
    unseal shares on the host as it takes, as a credential that systemd encrypted with the host's own key (and its TPM
    where there is one).
  - With O(unseal=operator) there are no shares on the host; any that were are removed.
  - The shares travel only when the host has none for this Vault. They are in no result, log, argument or plain file.
  - A module of our own for the custody of the shares. Files and units are those of M(openmates.server.host_files) and
    M(openmates.server.host_units), here because a run with nothing to do is one call, and a unit is not started
    before it has its credential.
options:
  unseal:
    description: Who unseals Vault after a restart.
    type: str
    choices: [host, operator]
    default: host
  shares_credential:
    description: Where the encrypted shares are on the host. The file's name is the credential's.
    type: path
    default: /etc/credstore.encrypted/openmates-vault-shares
  program:
    description:
      - Path on the host of the units' program, C(module_utils/vault/host_program.py). The files that it shares with the
        modules are written to the same directory.
    type: path
  absent:
    description: Paths of files that must not be there. They are removed after O(units) were stopped.
    type: list
    elements: path
    default: []
  init_id:
    description: Set by the action plugin.
    type: str
  shares:
    description: Set by the action plugin.
    type: list
    elements: str
requirements:
  - systemd-creds on the host
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault.custody, openmates.server.files, openmates.server.units]
attributes:
  check_mode:
    description: Reports what would change.
    support: full
  diff_mode:
    description: Names only.
    support: full
"""

EXAMPLES = r"""
- name: Install the host's Vault units
  openmates.server.vault_host:
    keys_file: /home/operator/keys/prod1.yml
    unseal: host
    files:
      - path: /etc/systemd/system/vault-unseal.service
        content: "{{ lookup('ansible.builtin.template', 'vault-unseal.service.j2') }}"
      - path: /etc/systemd/system/vault-unseal.timer
        content: "{{ lookup('ansible.builtin.template', 'vault-unseal.timer.j2') }}"
    units: [{name: vault-unseal.timer}]
"""

RETURN = r"""
changes:
  description: What was changed, or would be, by name.
  returned: success
  type: list
  elements: str
shares_due:
  description: Whether nothing was done because the host has no shares for this Vault. The action hands them over.
  returned: success
  type: bool
"""

import inspect
import pathlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import atomic, docker_api, files, units
from ansible_collections.openmates.server.plugins.module_utils.vault import api, host_program
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import credential as vault_credential


def program_files(path: str) -> dict[str, str]:
    """Map each file of the host's program to its text; `path` is the program itself, the last to be written."""
    parts = {"atomic.py": atomic, "docker_api.py": docker_api, "vault_api.py": api}
    folder = pathlib.Path(path).parent
    texts = {str(folder / name): inspect.getsource(part) for name, part in parts.items()}
    return texts | {path: inspect.getsource(host_program)}


def have_shares(module: AnsibleModule, credential: vault_credential.Credential, changes: list[str]) -> bool:
    """Have the shares on the host, and return False if they are needed for that and not at hand."""
    held = credential.read()
    module.no_log_values.update((held or {}).get("shares", []))
    content = {key: module.params[key] for key in ("init_id", "shares")}
    if held and held.get("init_id") == content["init_id"]:
        return True
    if not module.check_mode and not content["shares"]:
        return False
    changes.append(f"credential {credential.path.name}: {'replaced' if held else 'made'}")
    if not module.check_mode:
        credential.write(content)
    return True


def bring_about(module: AnsibleModule) -> dict:
    """Do everything, in an order in which no unit runs without what it needs. Raises what main reports."""
    params = module.params
    tree, services, changes = files.Changes(module), units.Units(module), []
    credential = vault_credential.Credential(module, params["shares_credential"])
    by_host = params["unseal"] == "host"
    if by_host and not have_shares(module, credential, changes):
        return {"changed": False, "changes": [], "shares_due": True}
    wanted = files.declared(params["files"])
    if params["program"]:
        wanted = [
            files.File(pathlib.Path(path), text, 0o644, files.own())
            for path, text in program_files(params["program"]).items()
        ] + wanted
    for file in wanted:
        tree.write(file)
    services.converge(params["units"])
    for path in [*params["absent"], *([] if by_host else [credential.path])]:
        tree.remove(pathlib.Path(path))
    if tree.removed:
        services.reload()
    changes += [f"file {path}: written" for path in tree.written + tree.corrected]
    changes += [f"file {path}: removed" for path in tree.removed] + services.done
    return {"changed": bool(changes), "changes": changes, "shares_due": False}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CUSTODY,
            "unseal": {"type": "str", "choices": ["host", "operator"], "default": "host"},
            "shares_credential": {
                "type": "path",
                "default": "/etc/credstore.encrypted/openmates-vault-shares",
                "no_log": False,
            },
            "program": {"type": "path"},
            "files": files.FILES,
            "absent": {"type": "list", "elements": "path", "default": []},
            "units": units.UNITS,
            "init_id": {"type": "str"},
            "shares": {"type": "list", "elements": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    # The units' texts would only make the most verbose output longer.
    paths = [file["path"] for file in module.params["files"]]
    shown = {"module_args": {**module.params, "shares": None, "files": paths}}
    try:
        result = bring_about(module)
    except (vault.VaultProblem, units.UnitFailed, files.Refused, ValueError) as problem:
        module.fail_json(msg=str(problem), invocation=shown)
    except OSError as error:
        module.fail_json(msg=f"A file of Vault's units cannot be written: {error}", invocation=shown)
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in result["changes"])}
    module.exit_json(**result, invocation=shown)


if __name__ == "__main__":
    main()
