# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run drift.yml in check mode, and collect what it would change.

Ansible loads the callback plugins beside a playbook by itself, so that no ansible.cfg has to name this one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.openmates.server.plugins.plugin_utils.change.drift import FINDINGS

DOCUMENTATION = r"""
name: openmates_drift
type: aggregate
short_description: Run drift.yml in check mode, and collect what it would change
description:
  - A playbook cannot switch to check mode by itself. Without C(--check), the same command is started again with it.
  - Collects the names of the tasks that would change something, and those in their results, for the action plugin
    M(openmates.server.drift_info).
  - Does nothing in other playbooks.
author: [The openmates.server contributors]
"""

PLAYBOOK = "drift.yml"


class CallbackModule(CallbackBase):
    """Runs in the main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "openmates_drift"

    def __init__(self) -> None:
        super().__init__()
        self.collects = False

    def v2_playbook_on_start(self, playbook) -> None:
        self.collects = Path(playbook._file_name).name == PLAYBOOK
        if self.collects and not context.CLIARGS["check"]:
            command = [sys.executable, *sys.argv, "--check"]
            # By name, because Ansible keeps the standard streams from its children.
            streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
            sys.exit(subprocess.run(command, **streams, check=False).returncode)

    def v2_runner_on_ok(self, result) -> None:
        if self.collects and result.is_changed():
            FINDINGS.add(result.host.get_name(), result.task.get_name(), result.result)
