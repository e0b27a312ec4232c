# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of host_credential: its argument goes through the connection's standard input only."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction


class ActionModule(PipelinedAction):
    """Runs the module with pipelining."""
