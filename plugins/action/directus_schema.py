# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of directus_schema: its arguments hold the administrator's password."""

from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction as ActionModule

__all__ = ["ActionModule"]
