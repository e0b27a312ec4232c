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
  - This module runs on the host; the action plugin of the same name adds the login and waits for the rollback.
options:
  name:
    description: Name of the guard. Tasks that change the same files use the same name.
    type: str
    required: true
  files:
    description: The files.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: "The file's whole text.", type: str, required: true}
      mode: {description: Octal permissions., type: str, default: "0644"}
      owner: {description: "Owner of the file, with the user's own group.", type: str, default: root}
      directory_mode:
        description: >-
          Octal permissions of the file's directory, which then belongs to the file's owner. Without it, an existing
          directory is not changed.
        type: str
  validate:
    description: Commands that refuse invalid files with an exit code other than 0.
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
import pwd
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import atomic, files, rollback
from ansible_collections.openmates.server.plugins.module_utils.arguments import PATH, REQUIRED, TEXT, several
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
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


class Wanted(NamedTuple):
    """The declared state of a file. The owner is None if the user does not exist yet, as in a dry run."""

    path: Path
    content: bytes
    mode: int
    owner: tuple[int, int] | None
    directory_mode: int | None

    @classmethod
    def of(cls, file: dict) -> Wanted:
        directory_mode = file["directory_mode"]
        owner = None
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(file["owner"])
            owner = (user.pw_uid, user.pw_gid)
        return cls(
            Path(file["path"]),
            file["content"].encode(),
            int(file["mode"], 8),
            owner,
            int(directory_mode, 8) if directory_mode else None,
        )

    def present(self) -> bool:
        """Whether the file, and its directory if declared, is as declared."""
        if self.path.is_symlink() or not self.path.is_file() or self.owner is None:
            return False
        if self.directory_mode is not None and files.attributes(self.path.parent) != (self.directory_mode, *self.owner):
            return False
        return self.path.read_bytes() == self.content and files.attributes(self.path) == (self.mode, *self.owner)

    def write(self) -> None:
        folder = self.path.parent
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.directory_mode is not None:
            files.permit(folder, self.directory_mode, self.owner)
        write_atomically(self.path, self.content, self.mode, *self.owner)


def text(path: Path) -> str:
    """What a diff shows of the existing file."""
    with contextlib.suppress(OSError):
        return path.read_bytes().decode("utf-8", "replace")
    return ""


def install(name: str) -> None:
    """Install the rollback as a service of the host, which also runs after a reboot."""
    wanted = {
        PROGRAM / "rollback.py": inspect.getsource(rollback),
        PROGRAM / "atomic.py": inspect.getsource(atomic),
        UNIT: UNIT_TEXT,
    }
    PROGRAM.mkdir(mode=0o755, parents=True, exist_ok=True)
    stale = [path for path, content in wanted.items() if text(path) != content]
    for path in stale:
        write_atomically(path, wanted[path].encode(), 0o644)
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


def change(module: AnsibleModule, guard: Guard, wanted: list[Wanted]) -> dict:
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
        result["diff"] = [files.difference(str(file.path), text(file.path), file.content.decode()) for file in wrong]
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
            if file.owner is None:
                raise OSError(f"the owner of {file.path} does not exist")
            file.write()
        for command in params["validate"]:
            run(command)
        step, in_effect = "could not be made effective", True
        for command in params["activate"]:
            run(command)
    except (OSError, CommandFailed) as error:
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
            "files": several(
                path=PATH | REQUIRED,
                content=TEXT | REQUIRED,
                mode=TEXT | {"default": "0644"},
                owner=TEXT | {"default": "root"},
                directory_mode=TEXT,
            ),
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
        wanted = [Wanted.of(file) for file in module.params["files"]]
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
