# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a server as a table that fits one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.move import MOVED, PREPARING
from ansible_collections.openmates.server.plugins.plugin_utils.status import drift, runs, scans, services
from ansible_collections.openmates.server.plugins.plugin_utils.status.faults import (
    SEALED,
    Fault,
    faults_of,
    left,
    line_of,
)
from ansible_collections.openmates.server.plugins.plugin_utils.status.times import duration, gigabytes, mebibytes
from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import Backups
from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import Readiness

WIDTH = 100
HEAD = ("service", "state", "since", "by run", "MiB of limit", "restarts", "image")
#: Below this width the column of the image is not worth its place.
IMAGE_WIDTH = 10


def table_of(seen: Mapping) -> list[str]:
    """The lines: the services, the rest of the server, and below each line its faults with their remedies."""
    faults = faults_of(seen)
    lines = [_title(seen, faults), *_services(seen, faults), *_server(seen, faults)]
    return [line if line.startswith(" ") else line[:WIDTH].rstrip() for line in lines]


def _title(seen: Mapping, faults: list[Fault]) -> str:
    count = "no faults" if not faults else "1 FAULT" if len(faults) == 1 else f"{len(faults)} FAULTS"
    last = next(runs.all_runs(seen["info"]), {})
    age = duration(seen["info"]["time"] - (runs.moment(last.get("ended") or last.get("begun")) or seen["info"]["time"]))
    text = ""
    if last.get("result") == "running":
        text = f"; {last.get('verb')} by {last.get('who')} has been running for {age}"
    elif last:
        text = f"; last run: {last.get('verb')} by {last.get('who')} {age} ago, {last.get('result')}"
    return f"{seen.get('host')} ({seen.get('environment')}): {count}{text}"


def _services(seen: Mapping, faults: list[Fault]) -> Iterator[str]:
    if seen["info"].get("services_problem"):
        yield f"services     NOT READ: {seen['info']['services_problem']}"
        yield from _remedies(faults, "services")
        return
    found = services.containers(seen)
    rows = [HEAD, *(_row(seen, name, container, faults) for name, container in found.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    left = max(WIDTH - sum(widths) - 2 * len(widths), IMAGE_WIDTH)
    for name, row in zip(["", *found], rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1][:left]]).rstrip()
        yield from _remedies(faults, line_of(name))


def _row(seen: Mapping, name: str, container: Mapping, faults: list[Fault]) -> tuple[str, ...]:
    state = container["state"]
    if state == "running":
        state = container.get("health") or state
    elif state == "exited":
        state = (
            "done" if container.get("one_shot") and not container["exit_code"] else f"exited {container['exit_code']}"
        )
    if any(fault.line == line_of(name) for fault in faults):
        state = state.upper()
    began = services.since(container)
    return (
        name,
        state,
        duration(seen["info"]["time"] - began) if began else "-",
        runs.name(runs.run_at(seen["info"], container.get("created")), seen["info"]["time"]),
        _memory(container),
        str(container.get("restarts", "-")),
        str(container.get("image", "")).rpartition("/")[2],
    )


def _memory(container: Mapping) -> str:
    used, limit = container.get("memory"), container.get("memory_limit")
    if used is None:
        return "-"
    if not limit:
        return mebibytes(used)
    return f"{mebibytes(used)}/{mebibytes(limit)} {100 * used / limit:.0f} %"


def _server(seen: Mapping, faults: list[Fault]) -> Iterator[str]:
    info = seen["info"]
    rows = {
        "ready": _ready(info),
        "vault": _vault(info),
        "certificate": _certificate(seen),
        "backups": _backups(info),
        "disk": _disk(info),
        "system": _system(info),
        **({"scan": scan} if (scan := scans.summary(seen)) else {}),
        **_drift(info),
    }
    for name, text in rows.items():
        yield f"{'NOT OK' if any(fault.line == name for fault in faults) else 'ok':<7} {name:<12} {text}"
        yield from _remedies(faults, name)


def _remedies(faults: list[Fault], line: str) -> Iterator[str]:
    for fault in faults:
        if fault.line == line:
            yield from textwrap.wrap(
                fault.text, WIDTH, initial_indent="  ! ", subsequent_indent="    ", break_on_hyphens=False
            )


def _ready(info: Mapping) -> str:
    if peer := left(info):
        if info["move"]["state"] == PREPARING:
            return f"{peer} serves; this server holds a copy of its data for a move"
        forwards = "forwards to it" if info["move"]["state"] == MOVED else "answers with 503"
        return f"{peer} serves since {info['move'].get('since')}; this server {forwards}"
    readiness = Readiness({"ready": info.get("ready")})
    maintenance = "MAINTENANCE: clients get 503" if info.get("maintenance") is not None else "no maintenance"
    if readiness.ok:
        return f"OpenMates is ready in all {len(readiness.parts)} parts; {maintenance}"
    failing = ", ".join(name for name, _ in readiness.failing) or readiness.error
    return f"NOT READY: {failing}; {maintenance}"


def _vault(info: Mapping) -> str:
    vault = info.get("vault") or {}
    if vault.get("problem"):
        return vault["problem"]
    state = vault.get("state") or "unknown"
    state = state.upper() if state == SEALED else state
    token = f"; the services' token is valid for {duration(vault['token_seconds'])}" if vault["token_seconds"] else ""
    return f"{state}{token}{'; ' + vault['token_problem'] if vault.get('token_problem') else ''}"


def _certificate(seen: Mapping) -> str:
    found = seen["info"].get("certificate") or {}
    if not found:
        return "none: openmates_domain is not set"
    if found.get("ends") is None:
        return found["problem"]
    return f"{seen['domain']}, {duration(found['ends'] - seen['info']['time'])} left"


def _backups(info: Mapping) -> str:
    if not info.get("backup"):
        return "none: openmates_backup_repository is not set"
    backups = Backups({"backup": info["backup"]})
    good = "none yet" if backups.hours is None else f"the last good one is {duration(backups.hours * 3600)} old"
    proven = (backups.proof.get("last_proven") or {}).get("seconds")
    proof = f"a restore was proven {duration(info['time'] - proven)} ago" if proven else "no restore was proven yet"
    return f"{good}; {proof}"


def _disk(info: Mapping) -> str:
    texts = []
    for disk in info.get("disks") or []:
        full = "—" if disk["days_left"] is None else f"{disk['days_left']:.0f} d"
        texts.append(f"{disk['path']} {disk['percent']} %, {gigabytes(disk['free'])} free, full in: {full}")
    return "; ".join(texts)


def _system(info: Mapping) -> str:
    updates, units = info.get("updates") or {}, info.get("failed_units") or []
    reboot = "REBOOT REQUIRED" if (info.get("reboot") or {}).get("required") else "no reboot required"
    count = f"{updates.get('packages')} updates, {updates.get('security')} for security"
    failed = f"{len(units)} FAILED UNITS" if units else "no failed units"
    return f"{failed}; {reboot}; {'updates not known: ' + updates['problem'] if updates.get('problem') else count}"


def _drift(info: Mapping) -> dict[str, str]:
    """The line of the last drift check, if there was one."""
    checked = drift.last_check(info)
    if not checked:
        return {}
    found = f"{drift.count(checked)} would change it" if checked["drift"] else "none"
    return {"drift": f"{found}, checked {duration(info['time'] - checked['time'])} ago"}
