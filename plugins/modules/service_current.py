#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep systemd services running with the current content of their configuration files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_current
short_description: Run systemd services with the current content of their configuration files
description:
  - Starts and enables a service, or stops and disables it.
  - Reloads or restarts a running service when one of O(files) was changed after its last start or reload.
  - Reloads systemd if a unit file changed after it was last read.
  - A handler is lost if a run is interrupted before it; this module reads the state from the host instead.
options:
  name:
    description: Name of the unit. Either this or O(services).
    type: str
  running:
    description: Whether the service runs and starts at boot.
    type: bool
    default: true
  files:
    description: The configuration files that the service reads when it starts or reloads.
    type: list
    elements: path
    default: []
  refresh:
    description: How the service reads its files again.
    type: str
    choices: [reload, restart]
    default: reload
  restart_files:
    description: Files that take effect only after a restart, such as drop-ins of its unit.
    type: list
    elements: path
    default: []
  services:
    description: Several units in one call, in this order, each with the options above.
    type: list
    elements: dict
    suboptions:
      name: {description: Name of the unit., type: str, required: true}
      running: {description: As above., type: bool, default: true}
      files: {description: As above., type: list, elements: path, default: []}
      refresh: {description: As above., type: str, choices: [reload, restart], default: reload}
      restart_files: {description: As above., type: list, elements: path, default: []}
      reason: {description: "The reason, as documentation.", type: str}
attributes:
  check_mode: {support: full, description: A unit that does not exist yet counts as one to be started.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Run Docker with its current configuration
  openmates.server.service_current:
    name: docker
    files: [/etc/docker/daemon.json]
    refresh: restart

- name: Run the clock and the journal with their current configuration
  openmates.server.service_current:
    services:
      - {name: chrony, files: [/etc/chrony/conf.d/openmates.conf], refresh: restart}
      - {name: systemd-journald, files: [/etc/systemd/journald.conf.d/openmates.conf], refresh: restart}
"""

RETURN = r"""
actions:
  description: The systemctl verbs that were, or in check mode would be, used. With O(services), each with its unit.
  type: list
  elements: str
  returned: always
  sample: [reload]
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    *("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload"),
    *("StateChangeTimestamp", "ActiveEnterTimestamp"),  # a reload changes only the first
)


def seconds(timestamp: str) -> float:
    """Seconds since the epoch of systemd's ``Sun 2026-11-22 15:00:00.123456 UTC``; 0 for an empty one."""
    if not timestamp:
        return 0.0
    moment = datetime.strptime(timestamp.split(" ", 1)[1], "%Y-%m-%d %H:%M:%S.%f UTC")
    return moment.replace(tzinfo=UTC).timestamp()


def newest_change(files: list[str]) -> float:
    """When the last of the files that exist was changed or replaced, in seconds since the epoch; 0 without any."""
    return max((Path(file).stat().st_ctime for file in files if Path(file).exists()), default=0.0)


def actions(unit: dict[str, str], running: bool, changed_at: float, restart_at: float, refresh: str) -> list[str]:
    """The systemctl verbs that bring the unit from its current state to the declared one.

    ``changed_at`` is when the files that it reads were last changed, ``restart_at`` those that need a restart.
    """
    enabled, active = unit["UnitFileState"] == "enabled", unit["ActiveState"] in ("active", "reloading")
    verbs = ["daemon-reload"] * (unit["NeedDaemonReload"] == "yes")
    if not running:
        return verbs + ["disable"] * enabled + ["stop"] * (unit["ActiveState"] not in ("inactive", "failed", ""))
    # A static or generated unit need not be enabled: another unit starts it at boot.
    verbs += ["enable"] * (unit["UnitFileState"] in ("disabled", "masked", ""))
    if not active:
        return [*verbs, "start"]
    if restart_at > seconds(unit["ActiveEnterTimestamp"]):
        return [*verbs, "restart"]
    return verbs + [refresh] * (changed_at > seconds(unit["StateChangeTimestamp"]))


def converge(module: AnsibleModule, service: dict) -> list[str]:
    """Bring one service to its declared state. Returns the verbs."""
    name, running, files, restart_files = (service[key] for key in ("name", "running", "files", "restart_files"))

    def systemctl(*arguments: str) -> tuple[int, str, str]:
        return module.run_command(["systemctl", *arguments])

    def look() -> dict[str, str]:
        shown = systemctl("show", name, "--timestamp=us+utc", *(f"--property={key}" for key in PROPERTIES))[1]
        return dict.fromkeys(PROPERTIES, "") | dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    unit = look()
    if unit["LoadState"] == "not-found" and running and not module.check_mode:
        systemctl("daemon-reload")  # a generator may create it from a file that was just written
        unit = look()
        if unit["LoadState"] == "not-found":
            module.fail_json(msg=f"There is no unit {name}. Install the package that provides it.")
    verbs = actions(unit, running, newest_change(files), newest_change(restart_files), service["refresh"])
    for verb in [] if module.check_mode else verbs:
        code, _, error = systemctl(verb, *([] if verb == "daemon-reload" else [name]))
        if code:
            for file in filter(os.path.exists, [*files, *restart_files]):
                os.utime(file)  # so that the next run tries again
            module.fail_json(msg=f"systemctl {verb} {name} failed: {error.strip()}. See: journalctl -u {name}")
    return verbs


def main() -> None:
    options = {
        "running": {"type": "bool", "default": True},
        "files": {"type": "list", "elements": "path", "default": []},
        "refresh": {"type": "str", "choices": ["reload", "restart"], "default": "reload"},
        "restart_files": {"type": "list", "elements": "path", "default": []},
    }
    one = {"name": {"type": "str", "required": True}, **options, "reason": {"type": "str"}}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            **options,
            "services": {"type": "list", "elements": "dict", "options": one},
        },
        required_one_of=[("name", "services")],
        mutually_exclusive=[("name", "services")],
        supports_check_mode=True,
    )
    services = module.params["services"]
    if services is None:
        verbs = converge(module, module.params)
    else:
        verbs = [f"{verb} {service['name']}" for service in services for verb in converge(module, service)]
    module.exit_json(changed=bool(verbs), actions=verbs)


if __name__ == "__main__":
    main()
