# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring systemd units to their declared state. The one implementation of all modules that start services."""

from __future__ import annotations

import math
import os
import time
import typing as t
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.arguments import REQUIRED, TEXT, one_of, several

_PATHS: dict[str, t.Any] = {"type": "list", "elements": "path", "default": []}
#: The argument spec of a module's option `units`; see the documentation fragment of the same name.
UNITS = several(
    name=TEXT | REQUIRED,
    state=one_of("started", "stopped", "run", "loaded", "refreshed") | {"default": "started"},
    files=_PATHS,
    refresh=one_of("reload", "restart") | {"default": "reload"},
    restart_files=_PATHS,
    reason=TEXT,
)
PROPERTIES = (
    *("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload"),
    *("StateChangeTimestamp", "ActiveEnterTimestamp"),  # a reload changes only the first
)
#: How long the output of a service that has ended may take to reach the journal.
JOURNAL_SECONDS = 5


class UnitFailed(Exception):
    """What systemd did not do, and why."""


def seconds(timestamp: str) -> float:
    """Seconds since the epoch of systemd's ``Sun 2026-11-22 15:00:00.123456 UTC``; 0 for an empty one."""
    if not timestamp:
        return 0.0
    moment = datetime.strptime(timestamp.split(" ", 1)[1], "%Y-%m-%d %H:%M:%S.%f UTC")
    return moment.replace(tzinfo=UTC).timestamp()


def newest_change(files: list[str]) -> float:
    """When the last of the files that exist was changed or replaced, in seconds since the epoch; 0 without any."""
    return max((Path(file).stat().st_ctime for file in files if Path(file).exists()), default=0.0)


def actions(shown: dict[str, str], started: bool, changed_at: float, restart_at: float, refresh: str) -> list[str]:
    """The systemctl verbs that bring a unit from its current state to the declared one.

    ``changed_at`` is when the files that it reads were last changed, ``restart_at`` those that need a restart.
    """
    enabled, active = shown["UnitFileState"] == "enabled", shown["ActiveState"] in ("active", "reloading")
    if not started:
        return ["disable"] * enabled + ["stop"] * (shown["ActiveState"] not in ("inactive", "failed", ""))
    # A static or generated unit need not be enabled: another unit starts it at boot.
    verbs = ["enable"] * (shown["UnitFileState"] in ("disabled", "masked", ""))
    if not active:
        return [*verbs, "start"]
    if restart_at > seconds(shown["ActiveEnterTimestamp"]):
        return [*verbs, "restart"]
    return verbs + [refresh] * (changed_at > seconds(shown["StateChangeTimestamp"]))


class Units:
    """One run of a module: brings units to their state, or in check mode only records what would be done."""

    def __init__(self, module: AnsibleModule) -> None:
        self.dry, self.run_command = module.check_mode, module.run_command
        self.done: list[str] = []
        self.would_write: Collection[str] = ()

    def converge(self, units: list[dict], written: Collection[str] = ()) -> None:
        """Bring the units to their state, in their order. ``written``: the files that this run of the module has
        written, or in check mode would have. Raises UnitFailed."""
        if not units:
            return
        if self.dry:
            self.would_write = written
        shown = self._show(units)
        stale = any(state["NeedDaemonReload"] == "yes" for state in shown.values())
        self.done += ["daemon-reload"] * stale
        # A generator may create a unit from a file that was just written.
        missing = [unit["name"] for unit in units if self._missing(unit, shown)]
        if (stale or missing) and not self.dry:
            self.reload()
            shown = self._show(units)
            for unit in units:
                if self._missing(unit, shown):
                    raise UnitFailed(f"There is no unit {unit['name']}. Install the package that provides it.")
        for unit in units:
            self._converge(unit, shown[unit["name"]])

    def reload(self) -> None:
        """Have systemd forget units whose files were removed. Raises UnitFailed."""
        if not self.dry:
            self._systemctl("daemon-reload")

    def _converge(self, unit: dict, shown: dict[str, str]) -> None:
        if unit["state"] == "loaded" or (unit["state"] == "refreshed" and shown["ActiveState"] != "active"):
            verbs = []
        elif unit["state"] == "run":
            verbs = ["restart"]  # not `start`: it accepts a run that began before its prerequisites were there
        else:
            changes = self._newest_change(unit["files"]), self._newest_change(unit["restart_files"])
            verbs = actions(shown, unit["state"] != "stopped", *changes, unit["refresh"])
            if unit["state"] == "refreshed":
                verbs = [verb for verb in verbs if verb != "enable"]
        for verb in verbs:
            self.done.append(f"{verb} {unit['name']}")
            if not self.dry:
                self._do(verb, unit)

    def _newest_change(self, files: list[str]) -> float:
        return math.inf if set(files).intersection(self.would_write) else newest_change(files)

    def _do(self, verb: str, unit: dict) -> None:
        name, began = unit["name"], time.time()
        try:
            self._systemctl(verb, name)
        except UnitFailed as error:
            for file in filter(os.path.exists, [*unit["files"], *unit["restart_files"]]):
                os.utime(file)  # so that the next run tries again
            output = "" if verb in ("enable", "disable") else self._output(name, began)
            if not output:
                raise UnitFailed(f"{error} See: sudo journalctl --unit {name}") from None
            raise UnitFailed(f"systemctl {verb} {name} failed: {output}") from None

    @staticmethod
    def _missing(unit: dict, shown: dict[str, dict[str, str]]) -> bool:
        return unit["state"] not in ("stopped", "refreshed") and shown[unit["name"]]["LoadState"] == "not-found"

    def _show(self, units: list[dict]) -> dict[str, dict[str, str]]:
        """What systemd knows of each unit. A timer counts as stale if the service that it starts is."""
        names = [unit["name"] for unit in units]
        services = [name.replace(".timer", ".service") for name in names]
        asked = list(dict.fromkeys(names + services))
        text = self._systemctl("show", *asked, "--timestamp=us+utc", *(f"--property={key}" for key in PROPERTIES))
        shown = {}
        for name, lines in zip(asked, text.split("\n\n"), strict=False):
            known = dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
            shown[name] = dict.fromkeys(PROPERTIES, "") | known
        for name, service in zip(names, services, strict=True):
            if shown[service]["NeedDaemonReload"] == "yes":
                shown[name]["NeedDaemonReload"] = "yes"
        return shown

    def _output(self, unit: str, began: float) -> str:
        """The unit's own last lines in the journal since then, without those of systemd."""
        full_name = unit if "." in unit else f"{unit}.service"
        # Not by the invocation's id: lines that the journal receives after the end of the service lack it.
        look = ["journalctl", f"_SYSTEMD_UNIT={full_name}", f"--since=@{began:.6f}", "--lines=3", "--output=cat"]
        end = time.monotonic() + JOURNAL_SECONDS
        while time.monotonic() < end:
            _, output, _ = self.run_command([*look, "--quiet", "--no-pager"])
            if output.strip():
                return " ".join(output.split())
            time.sleep(0.2)
        return ""

    def _systemctl(self, *arguments: str) -> str:
        code, out, error = self.run_command(["systemctl", *arguments])
        if code:
            raise UnitFailed(f"systemctl {' '.join(arguments)} failed: {error.strip()}")
        return out
