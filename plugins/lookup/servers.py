# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that a play is for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: servers
short_description: The hosts of the groups prod and dev, without which a play is an error
version_added: 0.1.0
author: The openmates.server contributors
description:
  - Returns the names of all servers in the inventory, for the C(hosts) of a play. Other hosts of an inventory are left
    alone, such as a bastion.
  - Fails if the name of a server is one that Ansible takes for a pattern, such as one with a space.
  - Fails if Ansible ignores the ansible.cfg of the present directory, because any user may write to the directory.
  - Fails if the inventory has no server, or if C(--limit) selects none. A play without hosts would be green.
  - The limit itself is applied by Ansible.
  - A playbook that imports another one for some of the servers names them in the variable C(servers_only).
"""

EXAMPLES = r"""
- name: Provision the servers
  hosts: "{{ query('openmates.server.servers') }}"
"""

RETURN = r"""
_raw:
  description: The names of the servers.
  type: list
  elements: str
"""

import ipaddress
import os
import re
import stat
from pathlib import Path

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

GROUPS = ("prod", "dev")


class LookupModule(LookupBase):
    """Reads the groups of the inventory, and the hosts that the limit leaves."""

    def run(self, terms, variables=None, **kwargs):
        if context.CLIARGS.get("syntax"):
            return list(GROUPS)
        if ignored := _ignored_configuration():
            raise AnsibleError(ignored)
        groups = variables.get("groups", {})
        servers = list(dict.fromkeys(host for group in GROUPS for host in groups.get(group, [])))
        if not servers:
            raise AnsibleError(
                f"The inventory {_sources(variables)} has no server: its groups prod and dev are missing or empty. "
                "Name an inventory with -i, and put each server into one of the two groups"
            )
        if odd := [name for name in servers if not _is_host_name(name)]:
            raise AnsibleError(
                f"The inventory {_sources(variables)} has a server named {odd[0]!r}. Name it with letters, digits, "
                "dots, hyphens and underscores, and set its address in ansible_host"
            )
        only = self._templar.template(variables.get("servers_only") or [])
        if unknown := [name for name in only if name not in servers]:
            raise AnsibleError(
                f"The inventory {_sources(variables)} has no server {', '.join(unknown)}. Its servers are "
                f"{', '.join(servers)}"
            )
        # Before a play has its hosts, these are all hosts that the limit leaves.
        left = set(variables.get("ansible_play_batch", servers))
        if not left.intersection(servers):
            raise AnsibleError(
                f"--limit {variables.get('ansible_limit', '')} selects no server. "
                f"The servers of the inventory {_sources(variables)} are {', '.join(servers)}"
            )
        return list(only) or servers


def _ignored_configuration() -> str:
    """What is wrong if Ansible read no ansible.cfg although there is one, or an empty string."""
    here = Path.cwd()
    if "ANSIBLE_CONFIG" in os.environ or not (here / "ansible.cfg").exists() or not here.stat().st_mode & stat.S_IWOTH:
        return ""
    return (
        f"Ansible ignores {here}/ansible.cfg, because any user may write to that directory. Run `chmod o-w .`; where "
        "that has no effect, as on a disk of Windows in WSL, move the project to a file system that has permissions"
    )


def _is_host_name(name: str) -> bool:
    """Whether Ansible takes the name for one host, and not for a pattern, and it can be the name of a file."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name))
    return True


def _sources(variables) -> str:
    return ", ".join(map(str, variables.get("ansible_inventory_sources") or [])) or "(none)"
