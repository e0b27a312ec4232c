# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes effect only after a restart, from the output of `needrestart -b` and a line about /run/reboot-required."""

from __future__ import annotations

import re
import typing as t

#: needrestart's states of the kernel in which another one is installed than the one that runs.
_OTHER_KERNEL = ("2", "3")


class Needs(t.TypedDict):
    """Why the server has to restart, and the services that use files which were replaced."""

    reasons: list[str]
    services: list[str]


def needs(output: str) -> Needs:
    """Read `REBOOT-REQUIRED: PACKAGES`, which is there with /run/reboot-required, and needrestart's lines."""
    reasons = []
    if required := re.search(r"^REBOOT-REQUIRED: *(.*)$", output, re.MULTILINE):
        reasons.append("/run/reboot-required exists" + (f" ({required[1]})" if required[1] else ""))
    found = dict(re.findall(r"^NEEDRESTART-(KSTA|KCUR|KEXP): *(\S*)", output, re.MULTILINE))
    if found.get("KSTA") in _OTHER_KERNEL:
        reasons.append(f"the kernel {found.get('KEXP', '')} is installed, and {found.get('KCUR', 'another one')} runs")
    return {"reasons": reasons, "services": sorted(set(re.findall(r"^NEEDRESTART-SVC: *(\S+)", output, re.MULTILINE)))}
