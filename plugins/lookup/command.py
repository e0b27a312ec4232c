# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that runs a verb of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: command
short_description: The command that runs a playbook of this collection
version_added: 0.1.0
author: The openmates.server contributors
description:
  - Returns the command for each verb, with the inventories of the present run, for a message to an operator.
  - A playbook is called by its name in an installed collection, such as C(openmates.server.unseal), and by its path in
    a checkout.
options:
  _terms:
    description: Verbs, such as C(unseal).
    required: true
"""

EXAMPLES = r"""
- name: Say how to unseal Vault
  ansible.builtin.debug:
    msg: "Run `{{ lookup('openmates.server.command', 'unseal') }}`."
"""

RETURN = r"""
_raw:
  description: The commands.
  type: list
  elements: str
"""

from ansible.plugins.lookup import LookupBase
from ansible_collections.openmates.server.plugins.plugin_utils.commands import command


class LookupModule(LookupBase):
    """Reads the inventories of the run."""

    def run(self, terms, variables=None, **kwargs):
        return [command(verb, variables or {}) for verb in terms]
