#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what listens on the host, and how many connection attempts its firewall has dropped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: exposure_info
short_description: What a scan from outside is compared with, as the host itself sees it
version_added: 0.1.0
description:
  - Returns the listening TCP sockets with their programs, and the firewall's counters.
  - A module of our own because it is on the path of every run, before and after the scan, and one call replaces
    M(community.general.listen_ports_facts), which needs C(ss) or C(netstat), and C(nft).
options:
  firewall_table:
    description: The nftables table of the family inet whose counters to read. Empty to leave them out.
    type: str
    default: ""
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read what listens on the server
  openmates.server.exposure_info:
    firewall_table: openmates
  register: exposure
"""

RETURN = r"""
listeners:
  description: Each listening TCP socket.
  returned: success
  type: list
  elements: dict
  sample: [{port: 22, address: 0.0.0.0, program: sshd, pid: 812}]
counters:
  description: Packets that each counter of the firewall has seen; empty if there is no such table.
  returned: success
  type: dict
  sample: {closed_ipv4: 4711, closed_ipv6: 12}
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import listeners


def counted(output: str) -> dict[str, int]:
    """The packets of each counter in nft's JSON."""
    try:
        counters = [entry["counter"] for entry in json.loads(output)["nftables"] if "counter" in entry]
        return {counter["name"]: int(counter["packets"]) for counter in counters}
    except (ValueError, KeyError, TypeError):
        return {}


def counters(module: AnsibleModule, table: str) -> dict[str, int]:
    program = module.get_bin_path("nft", opt_dirs=["/usr/sbin"])
    if not table or not program:
        return {}
    return counted(module.run_command([program, "--json", "list", "counters", "table", "inet", table])[1])


def main() -> None:
    module = AnsibleModule(argument_spec={"firewall_table": {"type": "str", "default": ""}}, supports_check_mode=True)
    module.exit_json(
        changed=False,
        listeners=listeners.found(Path("/proc")),
        counters=counters(module, module.params["firewall_table"]),
    )


if __name__ == "__main__":
    main()
