# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewalls on a host that are in force, or will be after its next boot, besides the project's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

#: The package of each firewall, and the unit that loads its rules.
UNITS = {
    "arno-iptables-firewall": "arno-iptables-firewall",
    "ferm": "ferm",
    "firewalld": "firewalld",
    "netfilter-persistent": "netfilter-persistent",
    "nftables": "nftables",
    "shorewall": "shorewall",
    "shorewall6": "shorewall6",
}
UFW = Path("/etc/ufw/ufw.conf")


def in_force(packages: Mapping[str, str], run: Callable[[list[str]], str], ufw: Path = UFW) -> list[str]:
    """The names of those that are in force. ``run`` returns the output of a command.

    systemd is asked only about packages that are here: a provisioned server has one of them, nftables, for its program.
    """
    found = ["ufw"] if "ufw" in packages and _ufw_is_enabled(ufw) else []
    units = [unit for package, unit in UNITS.items() if package in packages]
    if not units:
        return found
    shown = run(["systemctl", "show", *units, "--property=Id,ActiveState,UnitFileState"])
    return sorted(found + [unit.removesuffix(".service") for unit in _loading(shown)])


def _ufw_is_enabled(conf: Path) -> bool:
    """By its own configuration: its unit is active without a rule, too."""
    return conf.is_file() and bool(re.search(r"^\s*ENABLED\s*=\s*[\"']?yes", conf.read_text(), re.M | re.I))


def _loading(shown: str) -> list[str]:
    """The units that are active or start at boot, by the output of ``systemctl show``."""
    found = []
    for block in shown.split("\n\n"):
        known = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if known.get("ActiveState") in ("active", "reloading", "activating") or known.get("UnitFileState") == "enabled":
            found.append(known.get("Id", ""))
    return found
