# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a server, each fault with its remedy; the one that may explain others comes first."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils import move
from ansible_collections.openmates.server.plugins.plugin_utils.status import drift, scans, services
from ansible_collections.openmates.server.plugins.plugin_utils.status.times import duration, gigabytes, mebibytes
from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import problems_of_backup
from ansible_collections.openmates.server.plugins.plugin_utils.verify.problems import (
    problems_of_flag,
    problems_of_readiness,
)

DAY = 86400
TOKEN_SECONDS = 3 * DAY  # it is renewed at half of its time, which is 16 days
ACTIVE, SEALED, EMPTY = "active", "sealed", "uninitialized"
#: Where the explanation of other faults is looked for first. Those of services are in the order of their dependencies.
RANKS = {
    **{"move": 0, "docker": 0, "disk": 1, "memory": 2, "vault": 2, "service": 2, "maintenance": 3, "ready": 4},
    **{"units": 5, "certificate": 6, "backup": 7, "scan": 8, "drift": 9, "reboot": 10},
}


class Fault(t.NamedTuple):
    """A fault, with the line of the table that it belongs to: `service api`, `disk`."""

    kind: str
    line: str
    text: str


def line_of(service: str) -> str:
    return f"service {service}"


def faults_of(seen: Mapping) -> list[Fault]:
    """All faults of a server, the cause first."""
    serving = (_move, _docker, _services, _maintenance, _ready, _backup)
    parts = (*(() if left(seen["info"]) else serving), _disks, _units, _certificate, _scans, _drift, _reboot)
    found = [fault for part in parts for fault in part(seen)]
    return sorted(found, key=lambda fault: RANKS[fault.kind])  # stable: services stay in their order


def left(info: Mapping) -> str:
    """Which server serves in place of this one, on which nothing is to run; empty if this one does."""
    record = info.get("move") or {}
    return record.get("peer", "") if record.get("state") in (move.MOVED, move.PREPARING, move.RETURNED) else ""


def _move(seen: Mapping) -> Iterator[Fault]:
    """A move that has not ended."""
    commands = move.from_table(seen.get("commands") or {})
    if text := move.refusal(seen["host"], seen["info"].get("move") or {}, command=commands):
        yield Fault("move", "ready", text)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _command(seen: Mapping, verb: str) -> str:
    return f"`{(seen.get('commands') or {}).get(verb) or f'{verb}.yml'}`"


def _docker(seen: Mapping) -> Iterator[Fault]:
    if problem := seen["info"].get("services_problem"):
        yield Fault(
            "docker",
            "services",
            f"{problem}. `sudo systemctl start docker` starts it, and `sudo journalctl "
            "-u docker` on the host says why it ended",
        )


def _services(seen: Mapping) -> Iterator[Fault]:
    if seen["info"].get("services_problem"):
        return
    for name, container in services.containers(seen).items():
        vault = list(_vault(seen)) if name == "vault" and container["state"] == "running" else []
        trouble = "" if vault else services.trouble(seen, name, container)  # its health check fails for that reason
        if services.killed(seen, container):
            yield Fault("memory", line_of(name), _killed(name, container, trouble))
        elif trouble:
            yield Fault("service", line_of(name), _stopped(seen, name, container, trouble))
        elif services.restarted(seen, container):
            yield Fault("service", line_of(name), _restarted(seen, name, container))
        yield from vault


def _restarted(seen: Mapping, name: str, container: Mapping) -> str:
    age = duration(seen["info"]["time"] - container["started"])
    return (
        f"Service {name} ended by itself and was restarted, {_times(container['restarts'])} since it was made, the "
        f"last time {age} ago. `sudo docker compose logs {name}` on the host shows why"
    )


def _killed(name: str, container: Mapping, trouble: str) -> str:
    limit = f" of {mebibytes(container['memory_limit'])}M" if container.get("memory_limit") else ""
    count = container.get("restarts") or 0
    now = f", and {trouble}" if trouble else f", and was restarted {_times(count)}" if count else ""
    return (
        f"Service {name} ran out of memory at its limit{limit}{now}. Set more in "
        f"openmates_services.{name}.memory and run site.yml"
    )


def _stopped(seen: Mapping, name: str, container: Mapping, trouble: str) -> str:
    if container["state"] == "paused":
        return f"Service {name}: it is paused. `sudo docker compose unpause {name}` on the host lets it go on"
    logs = f"See `sudo docker compose logs {name}` on the host"
    if container["state"] == "running" or container.get("one_shot"):  # since when it is unhealthy is not noted
        return f"Service {name}: {trouble}. {logs}"
    ended = services.since(container)
    age = f", for {duration(seen['info']['time'] - ended)}" if ended else ""
    return f"Service {name}: {trouble}{age}. {logs}; {_command(seen, 'site')} starts it"


def _vault(seen: Mapping) -> Iterator[Fault]:
    """What is wrong with Vault although its container runs."""
    vault = seen["info"].get("vault") or {}
    state, seconds = vault.get("state"), vault.get("token_seconds")
    text = ""
    if state == SEALED:
        remedy = (
            f"`sudo journalctl -u openmates-vault-unseal` on the host says why, and {_command(seen, 'site')} does it"
        )
        if seen.get("unsealed_by") == "operator":
            remedy = f"{_command(seen, 'unseal')} does it, by those who hold the shares"
        text = f"Vault is sealed, so no secret can be read, and has to be unsealed: {remedy}"
    elif state == EMPTY:
        text = f"Vault is not initialised. {_command(seen, 'site')} initialises it, or restore a backup"
    elif vault.get("problem") or state != ACTIVE:
        reason = vault.get("problem") or f"its state is {state}"
        text = f"Vault does not work: {reason}. See `sudo docker compose logs vault` on the host"
    elif vault.get("token_problem"):
        text = f"Vault: {vault['token_problem']}. `sudo journalctl -u openmates-vault-token` on the host says why"
    elif seconds is not None and seconds < TOKEN_SECONDS:
        text = (
            f"Vault: the services' token ends in {duration(seconds)} and was not renewed. "
            "`sudo journalctl -u openmates-vault-token` on the host says why"
        )
    if text:
        yield Fault("vault", "vault", text)


def _disks(seen: Mapping) -> Iterator[Fault]:
    limit = seen["limits"]["disk_percent"]
    for disk in seen["info"].get("disks") or []:
        if disk["percent"] >= limit:
            yield Fault(
                "disk",
                "disk",
                f"The file system of {disk['path']} is {disk['percent']} % full, {gigabytes(disk['free'])} are free "
                f"(limit: {limit} %). `sudo docker system df` and `sudo journalctl --disk-usage` on the host show what "
                "may go",
            )


def _maintenance(seen: Mapping) -> Iterator[Fault]:
    for text in problems_of_flag(seen["info"].get("maintenance")):
        yield Fault("maintenance", "ready", text)


def _ready(seen: Mapping) -> Iterator[Fault]:
    if not seen["info"].get("services_problem"):
        for text in problems_of_readiness({"ready": seen["info"].get("ready"), "hints": seen.get("hints")}):
            yield Fault("ready", "ready", text)


def _units(seen: Mapping) -> Iterator[Fault]:
    for unit in seen["info"].get("failed_units") or []:
        yield Fault(
            "units",
            "system",
            f"The unit {unit} has failed. `sudo journalctl -u {unit}` on the host says why; "
            f"`sudo systemctl restart {unit}` tries again",
        )


def _certificate(seen: Mapping) -> Iterator[Fault]:
    found, limit = seen["info"].get("certificate") or {}, seen["limits"]["certificate_days"]
    if found.get("problem"):
        text = f"The certificate of {seen['domain']}: {found['problem']}"
    elif found and found["ends"] - seen["info"]["time"] < limit * DAY:
        left = found["ends"] - seen["info"]["time"]
        when = f"ends in {duration(left)}" if left > 0 else f"ended {duration(-left)} ago"
        text = f"The certificate of {seen['domain']} {when} and was not renewed (limit: {limit} d)"
    else:
        return
    yield Fault("certificate", "certificate", f"{text}. `sudo journalctl -u caddy` on the host says why")


def _backup(seen: Mapping) -> Iterator[Fault]:
    for text in problems_of_backup({"backup": seen["info"].get("backup")}):
        yield Fault("backup", "backups", text)


def _scans(seen: Mapping) -> Iterator[Fault]:
    for text in scans.problems_of(seen, _command(seen, "verify"), _command(seen, "site")):
        yield Fault("scan", "scan", text)


def _drift(seen: Mapping) -> Iterator[Fault]:
    checked = drift.last_check(seen["info"])
    if checked.get("drift"):
        remedy = f"{_command(seen, 'drift')} shows all, {_command(seen, 'site')} puts it right"
        yield Fault("drift", "drift", f"Drift: {drift.summary(checked)}. {remedy}")


def _reboot(seen: Mapping) -> Iterator[Fault]:
    reboot = seen["info"].get("reboot") or {}
    if reboot.get("required"):
        packages = f" by {', '.join(reboot['packages'])}" if reboot.get("packages") else ""
        yield Fault("reboot", "system", f"A reboot is required{packages}. {_command(seen, 'upgrade')} does it")
