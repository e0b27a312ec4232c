# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a host that the project uses, collected by Ansible's own code where that is quick."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts import ansible_collector
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from ansible.module_utils.facts.network.linux import LinuxNetworkCollector
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.system.platform import PlatformFactCollector
from ansible.module_utils.facts.utils import get_mount_size

COLLECTORS = (PlatformFactCollector, DistributionFactCollector, LinuxNetworkCollector)


def collected(module: AnsibleModule) -> dict[str, t.Any]:
    """As M(ansible.builtin.setup) returns them: system, network, memory and disks."""
    namespace = PrefixFactNamespace(namespace_name="ansible", prefix="ansible_")
    facts = ansible_collector.get_ansible_collector(list(COLLECTORS), namespace).collect(module)
    return {
        **{name: value for name, value in facts.items() if name != "ansible_gather_subset"},
        "ansible_memtotal_mb": memory(Path("/proc/meminfo").read_text()),
        "ansible_mounts": disks(Path("/proc/mounts").read_text()),
    }


def memory(meminfo: str) -> int:
    """In MB, by the text of /proc/meminfo."""
    return int(re.search(r"^MemTotal:\s+(\d+)", meminfo, re.MULTILINE)[1]) // 1024


def disks(table: str) -> list[dict[str, t.Any]]:
    """Mount points of devices, by the text of /proc/mounts, with their size. An overlay, as a container's root is, is
    none."""
    mounts = (line.split() for line in table.splitlines())
    return [
        {"mount": mount, "device": device, "fstype": kind, **get_mount_size(mount)}
        for device, mount, kind, *_ in mounts
        if device.startswith("/")
    ]
