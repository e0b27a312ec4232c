# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_secret: the secrets that it works with."""

from ansible_collections.openmates.server.plugins.plugin_utils.custody import CustodyAction as ActionModule

__all__ = ["ActionModule"]
