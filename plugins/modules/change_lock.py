#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin of this name, which takes the lock of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_lock
short_description: Take the lock of a host for the rest of the run
description:
  - Lets only one run at a time change a host. The lock is held by a process on the host whose life depends on that of
    C(ansible-playbook). It is freed when the run ends, also if that is killed, and needs no renewal while a task runs.
  - When the run ends, a line with its outcome is added to the history. The callback plugin C(openmates_changes), beside
    this project's playbooks, reports the outcome. A run that is killed is recorded as C(interrupted).
  - Fails if another run has the lock, with who has it and since when.
  - Fails on a server that was moved to another one, or whose move has not ended, in any playbook but those that go on
    with it or start nothing. The server's own record says so, C(move.json) beside the lock.
  - Uses one more session of the SSH connection for as long as the run lasts.
  - A module of our own because a lock that a task leaves behind would outlive a run that is killed.
options:
  wait:
    description: For how many seconds to wait for a lock that another run has.
    type: float
    default: 0
  reboot:
    description:
      - Announce a reboot that this run causes, instead of taking the lock. The lock is kept until the reboot ends it.
        The next task of this module in the same run takes it again, and the history has one line for both parts.
    type: bool
    default: false
  lock:
    description: The lock file. It has the run that holds it.
    type: path
    default: /var/lib/openmates/change.lock
  history:
    description: The file with one JSON object per run, readable by root.
    type: path
    default: /var/log/openmates/history.jsonl
attributes:
  check_mode: {support: none, description: The task is skipped.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Take the server's lock
  openmates.server.change_lock: {wait: "{{ settings.lock_wait }}"}

- name: Announce the reboot to the server's lock
  openmates.server.change_lock: {reboot: true}

- name: Reboot
  ansible.builtin.reboot:

- name: Take the server's lock again
  openmates.server.change_lock: {wait: 60}
"""

RETURN = r"""
locked:
  description: Whether this run has the lock.
  type: bool
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "wait": {"type": "float", "default": 0},
    "reboot": {"type": "bool", "default": False},
    "lock": {"type": "path", "default": "/var/lib/openmates/change.lock"},
    "history": {"type": "path", "default": "/var/log/openmates/history.jsonl"},
}


def main() -> None:
    AnsibleModule(argument_spec=ARGUMENTS).fail_json(msg="change_lock runs on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
