# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print how a run on several servers ended.

Ansible loads the callback plugins beside a playbook by itself, so that no ansible.cfg has to name this one.
"""

from __future__ import annotations

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible_collections.openmates.server.plugins.plugin_utils.change.summary import cause_of, summary_of

DOCUMENTATION = r"""
name: openmates_summary
type: aggregate
short_description: Print how a run on several servers ended
description:
  - Prints a table after Ansible's recap, with the failed servers first and the cause of each.
  - Prints nothing for a single server, nor for a playbook that only reports, whose output another program may read.
author: [The openmates.server contributors]
"""

ONLY_REPORTS = "openmates.server.report"


class CallbackModule(CallbackBase):
    """Runs in the main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "openmates_summary"

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, None] = {}
        self.causes: dict[str, str] = {}

    def v2_playbook_on_play_start(self, play) -> None:
        # The servers of all batches; a failed one is in no later play.
        self.servers |= dict.fromkeys(play.get_variable_manager().get_vars(play=play)["ansible_play_hosts_all"])

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self.causes[result.host.get_name()] = cause_of(result.task.get_name(), result.result)

    def v2_runner_on_unreachable(self, result) -> None:
        self.causes[result.host.get_name()] = cause_of(result.task.get_name(), result.result)

    def v2_playbook_on_stats(self, stats) -> None:
        servers = [name for name in self.servers if name != "localhost"]
        if len(servers) > 1 and C.DEFAULT_STDOUT_CALLBACK != ONLY_REPORTS:
            counts = {name: stats.summarize(name) for name in stats.processed}
            self._display.display("\n".join(["", *summary_of(servers, counts, self.causes), ""]))
