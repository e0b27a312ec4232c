#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch the maintenance state of a host's public names."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Switch the maintenance state, in which Caddy answers with 503
description:
  - Creates or removes the flag file that Caddy's configuration (role caddy) looks for at each request. Nothing is
    reloaded. The state survives a reboot.
  - The flag has an owner. A verb (O(owner)) that needs the site to be closed sets and clears a flag of its own; it
    leaves alone one that an operator or another verb has set. An operator's request clears any flag.
  - A verb that fails or is killed leaves its flag, because the site may not work. The next run of the verb names the
    flag, and clears it when it has succeeded.
  - Connections that exist stay open, such as WebSockets and answers that are being sent.
  - A module of our own because M(ansible.builtin.file) neither knows who owns a flag nor whether Caddy looks for it.
options:
  state:
    description: Whether the site is in maintenance.
    type: str
    required: true
    choices: ["on", "off"]
  owner:
    description: The verb that asks for it, such as C(vault_restore), or V(operator).
    type: str
    default: operator
  reason:
    description: Why, for other operators.
    type: str
    default: ""
  by:
    description: Who asks for it. The action plugin sets it to the controller's user and name.
    type: str
    default: ""
  path:
    description: The flag file.
    type: path
    default: /var/lib/openmates-maintenance/flag.json
  configuration:
    description: Caddy's configuration, which must look for the flag file.
    type: path
    default: /etc/caddy/Caddyfile
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: none, description: The result has the flag.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Switch maintenance on for the restore
  openmates.server.maintenance:
    state: "on"
    owner: vault_restore
    reason: Vault is being restored

- name: Switch maintenance off, unless an operator has switched it on
  openmates.server.maintenance: {state: "off", owner: vault_restore}
"""

RETURN = r"""
supported:
  description: Whether Caddy on this host looks for the flag file. Otherwise nothing is switched.
  type: bool
  returned: always
flag:
  description: The flag as it is now, with C(owner), C(by), C(reason) and C(since). Empty if maintenance is off.
  type: dict
  returned: always
cleared:
  description: The flag that was removed. Otherwise empty.
  type: dict
  returned: always
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import maintenance
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["on", "off"]},
            "owner": {"type": "str", "default": maintenance.OPERATOR},
            "reason": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "path": {"type": "path", "default": "/var/lib/openmates-maintenance/flag.json"},
            "configuration": {"type": "path", "default": "/etc/caddy/Caddyfile"},
        },
        supports_check_mode=True,
    )
    options = module.params
    path, owner = Path(options["path"]), options["owner"]
    try:
        before = maintenance.read(path)
        supported = looks_for(path, Path(options["configuration"]))
        after = before
        if options["state"] == "off":
            after = maintenance.switched_off(before, owner)
        elif supported:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            wanted = maintenance.Flag(owner, options["by"], options["reason"], since)
            after = maintenance.switched_on(before, wanted)
        if after != before and not module.check_mode:
            write(path, after)
    except OSError as error:
        module.fail_json(msg=f"{error.filename or path}: {error.strerror or error}")
    if after and after.owner == owner != maintenance.OPERATOR:
        left = f" An earlier run of {owner} left it on ({told(before)})." if before else ""
        module.warn(f"Maintenance is on, clients get 503. It ends when {owner} has succeeded.{left}")
    module.exit_json(
        changed=after != before,
        supported=supported,
        flag=after._asdict() if after else {},
        cleared=before._asdict() if before and not after else {},
    )


def told(flag: maintenance.Flag) -> str:
    """Since when the flag has been set, and by whom."""
    return f"since {flag.since or 'an unknown time'}" + (f", {flag.by}" if flag.by else "")


def looks_for(path: Path, configuration: Path) -> bool:
    """Whether Caddy's configuration names the flag file, as the role caddy writes it."""
    try:
        text = configuration.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    return f"root {path.parent}\n" in text and f"try_files /{path.name}\n" in text


def write(path: Path, flag: maintenance.Flag | None) -> None:
    """Write or remove the flag file. Caddy needs the permission to enter its directory, and none for the file."""
    if flag is None:
        path.unlink()
        sync_folder(path.parent)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    write_atomically(path, maintenance.content(flag).encode(), 0o600)


if __name__ == "__main__":
    main()
