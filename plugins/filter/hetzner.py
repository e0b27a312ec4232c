# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role hetzner; the documentation of each is beside this file."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils import hetzner


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {
            "hetzner_failure": hetzner.failure,
            "hetzner_firewall_rules": hetzner.firewall_rules,
            "hetzner_problems": hetzner.problems,
            "hetzner_ssh_keys": hetzner.ssh_keys,
        }
