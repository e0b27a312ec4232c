# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the vault_* modules share; module_utils/vault/connection.py has the same as argument specs."""

from __future__ import annotations


class ModuleDocFragment:
    """Options by what a module has to do with Vault."""

    # It talks to Vault's API.
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of Vault's API as the host reaches it. May be empty in check mode, when there is no Vault yet.
      - A task that does not name it takes it from the variable C(vault_url). The same holds for O(gateway)
        (C(vault_gateway)), O(deadline) (C(vault_deadline)) and, where a module has them, C(keys_file), C(access_file),
        C(state_directory) (variables with C(vault_) before these names) and C(former_state_directory)
        (C(vault_compose_project_src)).
    type: str
    default: ""
  gateway:
    description:
      - The host's own address on the container network that Vault is on. Where the host would reach O(url) from another
        address, that network does not exist, and nothing is sent to whatever machine has O(url)'s address instead.
      - Empty for a Vault that is not on such a network.
    type: str
    default: ""
  deadline:
    description: Seconds to wait for Vault, at each step.
    type: int
    default: 60
requirements:
  - hvac (Debian's python3-hvac) on the host
"""

    # Its action plugin reads the keys file, and fails without the option.
    CUSTODY = r"""
options:
  keys_file:
    description: The keys file of M(openmates.server.vault_init) on the controller.
    type: str
  keys_present:
    description: Set by the action plugin.
    type: bool
    default: false
"""

    # It keeps markers of what is under way.
    STATE = r"""
options:
  state_directory:
    description:
      - The directory on the host, outside of Vault's data, of the files that record unfinished operations.
      - C(vault-init), an initialisation whose keys are not in custody yet, or a restore. C(vault-root), that there may
        be root tokens. C(vault-wipe), that Vault comes from a snapshot whose tokens and logins all have to go.
    type: path
    default: /var/lib/openmates
  former_state_directory:
    description: Where older versions kept these files, with a dot before the name. They are moved from there.
    type: path
"""

    # It makes root tokens from the shares.
    ROOT = r"""
options:
  root_url:
    description: Where Vault makes a root token from the shares, if not at O(url).
    type: str
    default: ""
  root_container:
    description: The container in whose network O(root_url) is. Empty for the host's own.
    type: str
    default: ""
"""

    # It works as the managing identity.
    MANAGED = r"""
options:
  access_file:
    description: >-
      The file on the controller with the secret of the managing identity, encrypted.
      M(openmates.server.vault_config) makes it.
    type: str
  access_role:
    description: The AppRole of the managing identity, and the name of its policy.
    type: str
    default: openmates-manage
  access_secret:
    description: Set by the action plugin.
    type: str
"""
