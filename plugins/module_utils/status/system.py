# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of Debian: failed units, updates, a reboot that is due, and processes that were killed for memory."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils.status.commands import Answer, run

#: What the kernel logs of a process that it killed for a control group's limit, with the container that it was in.
_KILLED = re.compile(r"oom-kill:constraint=CONSTRAINT_MEMCG.*?task_memcg=\S*?(?P<container>[0-9a-f]{64})")
_INSTALL = re.compile(r"^Inst (?P<name>\S+) .*\(\S+ (?P<origins>[^\[)]*)", re.MULTILINE)


def failed_units(command: Callable[..., Answer] = run) -> list[str]:
    listed = command("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
    return [line.split()[0] for line in listed["stdout"].splitlines() if line.strip()]


def updates(command: Callable[..., Answer] = run) -> dict[str, t.Any]:
    """How many packages have an update by the lists that are on the host, those held included, and for security."""
    options = ("--simulate", "--option", "Debug::NoLocking=true", "--ignore-hold", "--with-new-pkgs")
    simulated = command("apt-get", *options, "upgrade")
    if simulated["rc"]:
        return {"packages": None, "security": None, "problem": " ".join(simulated["stderr"].split())[-300:]}
    found = {match["name"]: "security" in match["origins"].lower() for match in _INSTALL.finditer(simulated["stdout"])}
    return {"packages": len(found), "security": sum(found.values()), "problem": ""}


def reboot(run_directory: Path = Path("/run")) -> dict[str, t.Any]:
    """Whether a package asks for a reboot, and which."""
    packages = run_directory / "reboot-required.pkgs"
    names = sorted(set(packages.read_text().split())) if packages.exists() else []
    return {"required": (run_directory / "reboot-required").exists(), "packages": names}


def killed_containers(command: Callable[..., Answer] = run) -> list[str]:
    """The ids of containers in which the kernel killed a process for memory in the last day.

    Docker notes it in the container's state, but only until the container starts again. It remembers the last 256
    events, those of health checks included. The kernel's log reaches back further, on a host that has it.
    """
    shown = ("--output=cat", "--quiet", "--no-pager")
    logged = command("journalctl", "--dmesg", "--since=-24h", "--grep=oom-kill:constraint", *shown)
    events = command("docker", "events", "--since=24h", "--until=0s", "--filter=event=oom", "--format={{.Actor.ID}}")
    return sorted({match["container"] for match in _KILLED.finditer(logged["stdout"])} | set(events["stdout"].split()))
