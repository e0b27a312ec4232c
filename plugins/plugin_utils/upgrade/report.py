# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell an operator what an upgrade changes and interrupts, before it does."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.apt import Plan

#: Packages whose upgrade restarts a service that clients notice, and for about how many seconds.
_NOTICED = {
    "caddy": "Caddy restarts: open connections close, WebSockets among them, and none is accepted for about 2 s."
}
DOCKER_SECONDS = 60
REBOOT_SECONDS = 180


class Reboot(t.TypedDict):
    """Why the server has to restart; nothing if it has not to. And whether this run does it."""

    reasons: list[str]
    wanted: bool


def report(upgrade: Plan, reboot: Reboot, drain_seconds: int, left: bool = False) -> list[str]:
    """Lines for an operator.

    drain_seconds: how long workers may take to finish their tasks. left: whether an earlier upgrade was interrupted.
    """
    lines = ["An earlier upgrade was interrupted: this run continues it."] if left else []
    packages = upgrade["packages"]
    lines += [f"Packages to be upgraded: {len(packages)}" if packages else "No package is to be upgraded."]
    lines += [f"- {package['name']} {package['old'] or '(not installed)'} -> {package['new']}" for package in packages]
    if upgrade["kept_back"]:
        lines.append(f"Kept back, by a hold of an operator or by apt: {', '.join(upgrade['kept_back'])}.")
    return [*lines, *interruptions(upgrade, reboot, drain_seconds)]


def interruptions(upgrade: Plan, reboot: Reboot, drain_seconds: int) -> list[str]:
    """What clients notice, and for about how long."""
    names = [package["name"] for package in upgrade["packages"]]
    lines = [text for name, text in _NOTICED.items() if name in names]
    expected = list(reboot["reasons"])
    if kernels := [name for name in names if name.startswith("linux-image-")]:
        expected.append(f"a new kernel ({', '.join(kernels)})")
    drain = f"until workers have finished their tasks (idle ones in seconds, the limit is {drain_seconds} s)"
    if upgrade["docker"]:
        which = ", ".join(upgrade["docker"])
        lines.append(
            f"Docker restarts ({which}); containers keep running. Clients get 503 {drain}, and for about"
            f" {DOCKER_SECONDS} s after that."
        )
    if expected and reboot["wanted"]:
        lines.append(
            f"The server restarts: {'; '.join(expected)}. All services stop. Clients get 503 {drain}, and for about"
            f" {REBOOT_SECONDS} s after that; while the server is down, there is no answer at all."
        )
    elif expected:
        lines.append(f"A reboot is pending, and left to an operator (upgrade_reboot): {'; '.join(expected)}.")
    if names and not any("restarts" in line for line in lines):
        lines.append("No client notices it.")
    return lines
