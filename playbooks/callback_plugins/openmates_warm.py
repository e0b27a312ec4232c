# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load once what Ansible would load again for each task, and pack modules before they are needed.

Ansible loads the callback plugins beside a playbook by itself, so that no ansible.cfg has to name this one.
"""

from __future__ import annotations

import gc

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader
from ansible_collections.openmates.server.plugins.plugin_utils import packing

DOCUMENTATION = r"""
name: openmates_warm
type: aggregate
short_description: Load once what Ansible would load again for each task
description:
  - Ansible forks a worker for each task and host. What a worker loads is lost with it, so each one that evaluates a
    template loads all filters and tests again. The main process loads them here, before its first fork.
  - Python's garbage collection writes to each object that it looks at, which copies the memory that a worker shares
    with the main process. What exists before the first fork is kept out of it.
  - The modules of the play are packed meanwhile, by a process of its own.
author: [The openmates.server contributors]
"""

OURS = "openmates.server.image"  # one of the collection's filters; Ansible loads the files of all of them for it


class CallbackModule(CallbackBase):
    """Runs in the main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "openmates_warm"

    def v2_playbook_on_play_start(self, play) -> None:
        for loader in (filter_loader, test_loader):
            list(loader.all())
        filter_loader.get(OURS)
        packing.start(packing.sent(packing.actions(play.tasks)), play.get_loader())
        gc.freeze()
