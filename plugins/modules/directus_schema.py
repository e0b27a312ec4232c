#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring Directus's schema to a snapshot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: directus_schema
short_description: Bring Directus's collections, fields and relations to a snapshot
description:
  - Compares a running Directus with a snapshot and applies the difference, in one transaction.
  - Removes nothing without O(remove), and changes no column in a way that could lose data without O(data_loss).
  - Without O(snapshot) it only reads the current schema.
  - A module of our own because no collection has one for Directus, and Directus itself applies a difference that
    loses data.
options:
  snapshot:
    description: The snapshot, as created by Directus.
    type: dict
  remove:
    description: Also remove objects that the snapshot lacks. That loses data, so it requires O(data_loss) as well.
    type: bool
    default: false
  data_loss:
    description: Also make changes that could lose data.
    type: bool
    default: false
  force:
    description: Compare and apply even if the snapshot is of another version of Directus.
    type: bool
    default: false
extends_documentation_fragment: [openmates.server.directus]
attributes:
  check_mode: {support: full, description: Compares and applies nothing; RV(losses) lists what would be refused.}
  diff_mode: {support: full, description: Lists the differences by name.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Apply the schema of the inventory
  openmates.server.directus_schema:
    url: http://172.30.0.11:8055
    email: "{{ admin_email }}"
    password: "{{ admin_password }}"
    snapshot: "{{ lookup('ansible.builtin.file', 'directus/prod.json') | from_json }}"
"""

RETURN = r"""
changes:
  description: What was changed, or would be, by name.
  type: list
  elements: str
  returned: success
  sample: ["field articles.title: created"]
undeclared:
  description: Objects that Directus has and the snapshot lacks. They stay.
  type: list
  elements: str
  returned: success
  sample: ["field articles.subtitle"]
losses:
  description: Changes that could lose data, which are refused without O(data_loss).
  type: list
  elements: str
  returned: success
snapshot:
  description: The current schema, if no snapshot was given.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.directus import api, schema


def work(module: AnsibleModule) -> dict:
    """The module's result. Raises DirectusProblem."""
    params = module.params
    result = {"changed": False, "changes": [], "undeclared": [], "losses": [], "snapshot": {}}
    with api.administrator(params["url"], params["email"], params["password"], params["deadline"]) as directus:
        if params["snapshot"] is None:
            return {**result, "snapshot": directus.read_one("/schema/snapshot")}
        comparison = schema.Comparison(directus, params["snapshot"], params["force"])
        removals = schema.removals(comparison.diff)
        result["losses"] = schema.losses(comparison.diff)
        if params["remove"]:
            result["losses"] += [f"{what} would be removed" for what in removals]
        else:
            result["undeclared"] = removals
        if module.check_mode:
            result["changes"] = schema.names(comparison.wanted(params["remove"], True))
        else:
            result["changes"] = comparison.apply(params["remove"], params["data_loss"])
    result["changed"] = bool(result["changes"])
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in result["changes"])}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **api.CONNECTION,
            "snapshot": {"type": "dict"},
            "remove": {"type": "bool", "default": False},
            "data_loss": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**work(module))
    except api.DirectusProblem as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
