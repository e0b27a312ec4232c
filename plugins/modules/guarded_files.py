#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change files that can lock out all users, and revert them unless a login confirms the change in time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guarded_files
short_description: Change files that can lock out all users, with a rollback that only a new login disarms
description:
  - Brings O(files) to their declared state and makes them effective. If that changes anything, a new login as
    O(login_user) that can also use sudo must verify that the server can still be administered. If it fails, all changes
    are reverted.
  - Before the first file is changed, the host takes a snapshot of the files and starts a service that restores them
    after O(seconds), unless the login succeeds first. That service needs neither Ansible nor a connection, is started
    again after a reboot, and handles a run that was interrupted at any point. The next run continues from there.
  - Files that O(validate) refuses are reverted at once and never become effective.
  - A module of our own because no other can take back a change of SSH or firewall after the connection is lost.
    O(files) have the same shape as those of M(openmates.server.host_files).
  - This module runs on the host; the action plugin of the same name adds the login and waits for the rollback.
options:
  name:
    description: Name of the guard. Tasks that change the same files use the same name.
    type: str
    required: true
  validate:
    description: Commands that refuse all of O(files), when they are in place, with an exit code other than 0.
    type: list
    elements: str
    default: []
  activate:
    description: Commands that make the files effective.
    type: list
    elements: str
    default: []
  rollback:
    description: Commands that make the restored files effective. Default is O(activate).
    type: list
    elements: str
  current:
    description: >-
      A command that fails if the files are not in effect. Without it, unchanged files count as effective.
    type: str
  seconds:
    description: Seconds that the host waits for the login. Raise it for a slow connection.
    type: int
    default: 60
  login_user:
    description: The user that the action plugin logs in as.
    type: str
  remedy:
    description: The remedy if the login fails, for the action plugin's message.
    type: str
  state:
    description:
      - With V(present), change the files and arm the rollback. With V(proven), disarm it. With V(restored), roll back.
      - The action plugin uses the last two by itself.
    type: str
    choices: [present, proven, restored]
    default: present
attributes:
  check_mode: {support: full, description: Reports what would change. Nothing is validated.}
  diff_mode: {support: full, description: Shows changed files.}
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.files]
"""

EXAMPLES = r"""
- name: Configure sshd
  openmates.server.guarded_files:
    name: ssh
    files:
      - {path: /etc/ssh/sshd_config.d/00-openmates.conf, content: "PermitRootLogin no\n", mode: "0600"}
    validate: [/usr/sbin/sshd -t]
    activate: [systemctl reload ssh]
    login_user: admin
"""

RETURN = r"""
written:
  description: Paths of the files that were created or changed.
  type: list
  elements: str
  returned: always
armed:
  description: Whether the host waits for the login.
  type: bool
  returned: always
resumed:
  description: Whether an earlier run was interrupted before its login.
  type: bool
  returned: always
"""

import contextlib
import inspect
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import atomic, files, rollback
from ansible_collections.openmates.server.plugins.module_utils.rollback import CommandFailed, Guard, run

STATE = Path("/var/lib/openmates-guard")
PROGRAM = Path("/usr/local/lib/openmates-guard")
UNIT = Path("/etc/systemd/system/openmates-guard@.service")
UNIT_TEXT = f"""\
# Written by Ansible: changes made here are lost with the next run of site.yml.
[Unit]
Description=Restore the former configuration of %i unless a login confirms the new one
ConditionPathExists={STATE}/%i/snapshot.json

[Service]
ExecStart=/usr/bin/python3 {PROGRAM}/rollback.py {STATE}/%i
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def install(name: str) -> None:
    """Install the rollback as a service of the host, which also runs after a reboot."""
    wanted = {
        PROGRAM / "rollback.py": inspect.getsource(rollback),
        PROGRAM / "atomic.py": inspect.getsource(atomic),
        UNIT: UNIT_TEXT,
    }
    stale = [path for path, content in wanted.items() if files.text(path) != content]
    for path in stale:
        files.write(path, wanted[path], 0o644)
    if stale:
        run("systemctl daemon-reload")
    run(f"systemctl enable --quiet openmates-guard@{name}.service")


def effective(command: str | None) -> bool:
    if not command:
        return True
    try:
        run(command)
    except CommandFailed:
        return False
    return True


def change(module: AnsibleModule, guard: Guard, wanted: list[files.File]) -> dict:
    """State present. Fails, with all files restored, if they are refused or cannot be made effective."""
    params = module.params
    wrong = [file for file in wanted if not file.present()]
    resumed = guard.snapshot() is not None
    result = {
        "changed": bool(wrong) or resumed or not effective(params["current"]),
        "written": [str(file.path) for file in wrong],
        "armed": False,
        "resumed": resumed,
        "diff": [],
    }
    if module._diff:
        result["diff"] = [files.difference(str(file.path), files.text(file.path), file.content) for file in wrong]
    if module.check_mode or not result["changed"]:
        return result
    undo = params["activate"] if params["rollback"] is None else params["rollback"]
    in_effect = resumed  # whether files other than the former ones may be in effect
    step = "could not be guarded"
    try:
        install(params["name"])
        guard.arm([file.path for file in wanted], undo, params["seconds"])
        # Not `start`: a rollback that is about to exit would count as running.
        run(f"systemctl restart openmates-guard@{params['name']}.service")
        step = "was refused"
        for file in wrong:
            files.Changes(module).write(file)
        for command in params["validate"]:
            run(command)
        step, in_effect = "could not be made effective", True
        for command in params["activate"]:
            run(command)
    except (OSError, CommandFailed, files.Refused) as error:
        back = restore(guard, params["name"], in_effect)
        module.fail_json(msg=f"The new configuration of {params['name']} {step}: {error}. {back}.", **result)
    return result | {"armed": True}


def restore(guard: Guard, name: str, in_effect: bool) -> str:
    """Roll back at once, and return the outcome as a sentence."""
    try:
        guard.restore(with_commands=in_effect)
    except (OSError, CommandFailed) as error:
        return f"It could not be restored yet ({error}); the host keeps trying"
    with contextlib.suppress(CommandFailed):
        run(f"systemctl stop openmates-guard@{name}.service")
    return "The former one was restored" + ("" if in_effect else "; it was in effect the whole time")


def finish(module: AnsibleModule, guard: Guard) -> dict:
    """States proven and restored."""
    name, state = module.params["name"], module.params["state"]
    result = {"changed": True, "written": [], "armed": False, "resumed": False}
    if guard.snapshot() is None:
        if state == "restored":
            return result | {"changed": False}
        module.fail_json(
            msg=f"The login for {name} came too late: the host has restored the former files. Raise `seconds`."
        )
    if module.check_mode:
        return result
    if state == "proven":
        guard.disarm()
        run(f"systemctl stop openmates-guard@{name}.service")
        return result
    back = restore(guard, name, True)
    if guard.snapshot() is not None:
        module.fail_json(msg=back)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "files": files.FILES,
            "validate": {"type": "list", "elements": "str", "default": []},
            "activate": {"type": "list", "elements": "str", "default": []},
            "rollback": {"type": "list", "elements": "str"},
            "current": {"type": "str"},
            "seconds": {"type": "int", "default": 60},
            "login_user": {"type": "str"},
            "remedy": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "proven", "restored"], "default": "present"},
        },
        supports_check_mode=True,
    )
    guard = Guard(STATE / module.params["name"])
    try:
        wanted = files.declared(module.params["files"])
        with contextlib.ExitStack() as stack:
            if not module.check_mode:
                guard.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(guard.locked())
            if module.params["state"] == "present":
                module.exit_json(**change(module, guard, wanted))
            module.exit_json(**finish(module, guard))
    except (OSError, ValueError, CommandFailed) as error:
        module.fail_json(msg=f"The configuration of {module.params['name']}: {error}")


if __name__ == "__main__":
    main()
