# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory plan of a server: the system, the services at their limits, and temporary processes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Debian, the container engine, Caddy and the kernel, measured on a lab host; and a reserve for short-lived processes.
SYSTEM_PARTS = {
    "Docker, containerd and a shim per container": 240,
    "Caddy, sshd, journald, systemd and the other services": 105,
    "the kernel's own tables": 125,
    "one of: a run of Ansible, an upgrade of packages, a backup": 250,
}
SYSTEM_MB = sum(SYSTEM_PARTS.values())
#: The nightly restore test of a backup, which starts its own database.
RESTORE_PROOF_MB = 512
WORKER = "task-worker"
#: Limits of an App without limits.
APP_DEFAULTS = {"service": "128M", "worker": "1024M"}
#: Share of its limit at which a program in Go collects garbage aggressively. The rest is for memory that its runtime
#: does not count: stacks, files mapped into memory, a health check beside it.
GO_SHARE = 0.78

MEMORY = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE | re.ASCII)


def megabytes(limit: Any) -> float | None:
    """A Compose memory limit in MiB, or None when it is not one."""
    match = MEMORY.fullmatch(str(limit))
    if not match or int(match[1]) == 0:
        return None
    return int(match[1]) * {"": 1 / 1024**2, "b": 1 / 1024**2, "k": 1 / 1024, "m": 1, "g": 1024}[match[2].lower()]


def app_limit(app: Mapping) -> Any:
    """The memory limit of an entry of openmates_apps, as written or by default."""
    return app.get("memory") or APP_DEFAULTS.get(app.get("kind", "service"), APP_DEFAULTS["service"])


@dataclass(frozen=True)
class Plan:
    """All in MiB. ``temporary``: temporary processes, of which at most one runs at a time."""

    services: dict[str, float]
    apps: dict[str, float]
    temporary: dict[str, float]

    @property
    def steady(self) -> float:
        return sum(self.services.values()) + sum(self.apps.values())

    @property
    def largest(self) -> str:
        return max(self.temporary, key=self.temporary.__getitem__)

    @property
    def reserve(self) -> float:
        return self.temporary[self.largest]

    @property
    def total(self) -> float:
        return SYSTEM_MB + self.steady + self.reserve


def go_memory_limit(limit: str) -> str:
    """The value of GOMEMLIMIT for a program in Go with that Compose memory limit. Raises ValueError if it is none."""
    size = megabytes(limit)
    if size is None:
        raise ValueError(f"openmates_services: {limit!r} is not a memory limit. Write it as 256M or 1G")
    return f"{int(size * GO_SHARE)}MiB"


def make_plan(services: Mapping[str, Mapping[str, Any]], apps: Iterable[Mapping] = ()) -> Plan:
    """The plan for these services. An invalid limit counts as 0: other checks report it.

    One-shots have exited before a deploy or a restore test begins.
    """
    sizes = {name: megabytes(service.get("memory")) or 0.0 for name, service in services.items()}
    one_shots = sorted(name for name, service in services.items() if service.get("one_shot"))
    app_sizes = {str(app.get("name")): megabytes(app_limit(app)) or 0.0 for app in apps}
    workers = [sizes.get(WORKER, 0.0)]
    workers += [app_sizes[str(app.get("name"))] for app in apps if app.get("kind") == "worker"]
    return Plan(
        services={name: size for name, size in sizes.items() if name not in one_shots},
        apps=app_sizes,
        temporary={
            "a second api and a second worker during a deploy": sizes.get("api", 0.0) + max(workers),
            "the nightly proof that the backup can be restored": float(RESTORE_PROOF_MB),
            " and ".join(one_shots) or "one-shots": sum(sizes[name] for name in one_shots),
        },
    )


def table(plan: Plan) -> str:
    """The plan as a table in Markdown."""
    rows = [("| for | MiB |", "|---|---|")]
    rows += [(f"| the system: {part} | {size} |",) for part, size in SYSTEM_PARTS.items()]
    rows += [(f"| {service} | {size:.0f} |",) for service, size in {**plan.services, **plan.apps}.items()]
    for what, size in plan.temporary.items():
        counted = f"{size:.0f}" if what == plan.largest else f"({size:.0f})"
        rows.append((f"| for a while: {what} | {counted} |",))
    rows.append((f"| **sum** | **{plan.total:.0f}** |",))
    return "\n".join(line for row in rows for line in row) + "\n"
