#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile Directus's configuration: access control, service users, settings, folders, flows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: directus_config
short_description: Reconcile Directus's roles, policies, permissions, users, settings, folders and flows in one call
description:
  - Applies the declared state over the REST API, and changes only differences.
  - An object's id is derived from its kind and name, so that one that was renamed by hand is still recognised, and ids
    are the same on every server. An existing object with a declared name is adopted.
  - Undeclared fields are not changed. Undeclared objects stay as well, and are listed in RV(undeclared) if they add to
    a declared role, policy or user; with O(prune) they are removed.
  - Only objects that this module created, and additions to declared objects, are ever removed.
  - Results and diffs contain names and ordinary values, never a password or token.
  - A module of our own because no collection has one for Directus. All of it is one call on the path of every run.
options:
  administrator:
    description:
      - Another account, of a person, whose password is compared as well. A second factor does not matter.
      - If Directus refuses it, nothing is reconciled and RV(refused) is set.
    type: dict
    suboptions:
      email: {description: Its email address., type: str, required: true}
      password: {description: Its password., type: str, required: true}
  schema:
    description:
      - A snapshot of a Directus schema. Additions and changes are applied; objects that it lacks are listed in
        RV(undeclared) and stay. Refused if it could lose data; see M(openmates.server.directus_schema).
    type: dict
  schema_force:
    description: Apply the snapshot even if it is of another version of Directus.
    type: bool
    default: false
  collections:
    description: Collections that must exist.
    type: list
    elements: str
    default: []
  expected_file:
    description:
      - >-
        A JSON file on the host, written by Directus's set-up, with the collections and fields that it creates:
        C(collections), a table of fields by collection.
      - If Directus lacks some of them, or the file cannot be read, nothing is reconciled and RV(incomplete) is set.
    type: path
  policies:
    description: Policies with their permissions.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
      description: {description: Its description., type: str}
      icon: {description: Its icon., type: str}
      admin_access: {description: Whether it may do everything., type: bool}
      app_access: {description: Whether it may use the Data Studio., type: bool}
      enforce_tfa: {description: Whether a second factor is required., type: bool}
      ip_access: {description: Addresses and networks that it is restricted to., type: list, elements: str}
      public: {description: Whether it also applies without a login., type: bool}
      permissions:
        description: All of its permissions. Leave out to manage none.
        type: list
        elements: dict
        suboptions:
          collection: {description: The collection., type: str, required: true}
          actions:
            description: What it allows.
            type: list
            elements: str
            choices: [create, read, update, delete, share]
            required: true
          fields: {description: The fields that it applies to., type: list, elements: str, default: ["*"]}
          filter: {description: "The items that it applies to, as a filter rule of Directus.", type: dict}
          validation: {description: Validation rule of new values., type: dict}
          presets: {description: Values of new items., type: dict}
  roles:
    description: Roles.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
      description: {description: Its description., type: str}
      icon: {description: Its icon., type: str}
      parent: {description: Name of the role above it., type: str}
      policies: {description: "Names of all its policies. Leave out to manage none.", type: list, elements: str}
  users:
    description: Users, of people and of services.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "A constant name: the user's id is derived from it.", type: str, required: true}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
      email: {description: Email address; a service needs none., type: str}
      first_name: {description: "First name; a new user gets its O(users[].name).", type: str}
      last_name: {description: Last name., type: str}
      role: {description: Name of its role., type: str}
      policies: {description: "Names of all its own policies. Leave out to manage none.", type: list, elements: str}
      status: {description: Its status., type: str, choices: [active, suspended, archived], default: active}
      password: {description: Password of a person., type: str}
      token: {description: "Whether it has a static token, read from O(tokens_from).", type: bool, default: false}
  settings:
    description: Settings of the project by Directus's own names, such as C(project_name). Must not contain secrets.
    type: dict
    default: {}
  folders:
    description: Folders of files.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
      parent: {description: Name of the folder that it is in., type: str}
  flows:
    description: Flows with their operations.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
      description: {description: Its description., type: str}
      icon: {description: Its icon., type: str}
      color: {description: Its colour., type: str}
      status: {description: Whether it runs., type: str, choices: [active, inactive], default: active}
      trigger: {description: What starts it., type: str, choices: [event, webhook, operation, schedule, manual]}
      accountability: {description: "What Directus records of it: C(all), C(activity) or nothing.", type: str}
      options: {description: The trigger's options., type: dict}
      entry: {description: Key of its first operation; by default the first of the list., type: str}
      operations:
        description: All of its operations. Leave out to manage none.
        type: list
        elements: dict
        suboptions:
          key: {description: Its key., type: str, required: true}
          type: {description: "Its type, such as C(log) or C(item-create).", type: str, required: true}
          name: {description: Its name., type: str}
          options: {description: Its options., type: dict}
          resolve: {description: Key of the operation that follows., type: str}
          reject: {description: Key of the operation that follows a failure., type: str}
          position_x: {description: Where the Data Studio shows it., type: int}
          position_y: {description: Where the Data Studio shows it., type: int}
  tokens_from:
    description:
      - Location of the service users' tokens, a HashiCorp Vault or OpenBao, read with a token in a file on the host;
        a user's token is the field C(token) of the secret at C(<path>/<name>).
    type: dict
    suboptions:
      url: {description: Address of Vault's URL on the host., type: str, required: true}
      token_file: {description: File on the host with the Vault token to read with., type: path, required: true}
      engine: {description: The version 2 C(kv) engine., type: str, default: kv}
      path: {description: Path in it., type: str, default: system/directus}
  prune:
    description: Remove objects of this module that are no longer declared, and additions to declared objects.
    type: bool
    default: false
extends_documentation_fragment: [openmates.server.directus]
attributes:
  check_mode: {support: full, description: "Reports the changes, even if there is no Directus yet."}
  diff_mode: {support: full, description: Shows names and ordinary values.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Reconcile Directus
  openmates.server.directus_config:
    url: http://172.30.0.11:8055
    email: "{{ admin_email }}"
    password: "{{ admin_password }}"
    policies:
      - name: read articles
        permissions:
          - {collection: articles, actions: [read], filter: {status: {_eq: published}}}
    roles:
      - {name: website, policies: [read articles]}
    users:
      - {name: website, role: website, token: true}
    tokens_from: {url: "http://172.30.0.14:8200", token_file: /opt/openmates/secrets/vault-data/api.token}
    settings: {project_name: OpenMates}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, by name.
  type: list
  elements: str
  returned: success
  sample: ["role editor: name corrected"]
refused:
  description: Whether it failed because Directus refuses the administrator's address or password.
  type: bool
  returned: failure
incomplete:
  description: Whether it failed because collections or fields of O(expected_file) are missing. Nothing was changed.
  type: bool
  returned: failure
undeclared:
  description: Additions to declared objects, and objects that are no longer declared. They are not changed.
  type: list
  elements: str
  returned: success
  sample: ["permission of policy editor: delete articles"]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.arguments import (
    FLAG,
    MAPPING,
    NUMBER,
    PATH,
    REQUIRED,
    TEXT,
    WORDS,
    one_of,
    several,
)
from ansible_collections.openmates.server.plugins.module_utils.directus import api
from ansible_collections.openmates.server.plugins.module_utils.directus import tokens as directus_tokens
from ansible_collections.openmates.server.plugins.module_utils.directus.reconciler import Reconciler

# For a list that, unlike an empty one, changes nothing.
NONE = {"default": None}


def declared(**options: dict[str, t.Any]) -> dict[str, t.Any]:
    """A list of objects that are identified by their name and may be declared absent."""
    state = one_of("present", "absent") | {"default": "present"}
    return several(name=TEXT | REQUIRED, state=state, **options)


ARGUMENTS: dict[str, t.Any] = {
    **api.CONNECTION,
    "administrator": {
        "type": "dict",
        "options": {"email": TEXT | REQUIRED, "password": TEXT | REQUIRED | {"no_log": True}},
    },
    "schema": MAPPING,
    "schema_force": FLAG | {"default": False},
    "collections": WORDS | {"default": []},
    "expected_file": PATH,
    "policies": declared(
        description=TEXT,
        icon=TEXT,
        admin_access=FLAG,
        app_access=FLAG,
        enforce_tfa=FLAG,
        ip_access=WORDS,
        public=FLAG,
        permissions=several(
            collection=TEXT | REQUIRED,
            actions=WORDS | REQUIRED | {"choices": ["create", "read", "update", "delete", "share"]},
            fields=WORDS | {"default": ["*"]},
            filter=MAPPING,
            validation=MAPPING,
            presets=MAPPING,
        )
        | NONE,
    ),
    "roles": declared(description=TEXT, icon=TEXT, parent=TEXT, policies=WORDS),
    "users": declared(
        email=TEXT,
        first_name=TEXT,
        last_name=TEXT,
        role=TEXT,
        policies=WORDS,
        status=one_of("active", "suspended", "archived") | {"default": "active"},
        password=TEXT | {"no_log": True},
        token=FLAG | {"default": False, "no_log": False},
    ),
    "settings": MAPPING | {"default": {}},
    "folders": declared(parent=TEXT),
    "flows": declared(
        description=TEXT,
        icon=TEXT,
        color=TEXT,
        status=one_of("active", "inactive") | {"default": "active"},
        trigger=one_of("event", "webhook", "operation", "schedule", "manual"),
        accountability=TEXT,
        options=MAPPING,
        entry=TEXT,
        operations=several(
            key=TEXT | REQUIRED | {"no_log": False},
            type=TEXT | REQUIRED,
            name=TEXT,
            options=MAPPING,
            resolve=TEXT,
            reject=TEXT,
            position_x=NUMBER,
            position_y=NUMBER,
        )
        | NONE,
    ),
    "tokens_from": {
        "type": "dict",
        "no_log": False,
        "options": {
            "url": TEXT | REQUIRED,
            "token_file": PATH | REQUIRED | {"no_log": False},
            "engine": TEXT | {"default": "kv"},
            "path": TEXT | {"default": "system/directus"},
        },
    },
    "prune": FLAG | {"default": False},
}


def reconcile(module: AnsibleModule) -> dict:
    """Compare and correct; the module's result. Raises DirectusProblem."""
    params, dry = module.params, module.check_mode
    if hidden := sorted(name for name in params["settings"] if directus_tokens.is_secret_name(name)):
        raise api.DirectusProblem(f"settings: {hidden[0]} is a secret, but settings are printed. Set it in Directus.")
    names = [item["name"] for item in params["users"] if item["token"] and item["state"] == "present"]
    tokens = directus_tokens.read(params["tokens_from"], names, lenient=dry)
    module.no_log_values.update(tokens.values())
    with api.administrator(params["url"], params["email"], params["password"], params["deadline"]) as directus:
        if person := params["administrator"]:
            api.check_login(directus, person["email"], person["password"])
        reconciler = Reconciler(directus, params, tokens, dry)
        reconciler.run()
    changes = reconciler.changes
    result = {"changed": bool(changes.names), "changes": changes.names, "undeclared": reconciler.undeclared}
    if module._diff:
        result["diff"] = changes.diff()
    return result


def nothing_there_yet(url: str) -> bool:
    """Whether there is no Directus, as in check mode on a new server."""
    if not url or "//:" in url:
        return True
    try:
        api.Directus(url, timeout=5).answers()
    except api.DirectusUnreachable:
        return True
    return False


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if module.check_mode and nothing_there_yet(module.params["url"]):
        module.exit_json(changed=True, changes=["Directus does not exist yet: all would be created"], undeclared=[])
    try:
        module.exit_json(**reconcile(module))
    except api.DirectusProblem as problem:
        module.fail_json(
            msg=str(problem),
            refused=isinstance(problem, api.AdministratorRefused),
            incomplete=isinstance(problem, api.Incomplete),
        )


if __name__ == "__main__":
    main()
