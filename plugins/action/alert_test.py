# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of alert_test: the topic's address and token go through the connection's standard input only."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction


class ActionModule(PipelinedAction):
    """Runs the module with pipelining."""
