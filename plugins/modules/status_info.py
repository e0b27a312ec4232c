#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read all that the status of a server consists of, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Read the state of a server's services, its data and its system
version_added: 0.1.0
description:
  - Reads what the filter P(openmates.server.status_report#filter) shows and P(openmates.server.status_faults#filter)
    judges. Takes no lock, so it works while a run changes the server. No secret is returned.
  - What cannot be read is returned with the reason. The module itself does not fail because of it.
  - A module of our own because it reads a dozen places at the same time, most of which no module of another collection
    reads; one task per place would take ten times as long.
options:
  project_src:
    description: The directory with the Compose files.
    type: path
    required: true
  docker_root:
    description: The directory that Docker's engine keeps its data in.
    type: path
    default: /var/lib/docker
  domain:
    description: The name whose certificate is read. Empty to leave it out.
    type: str
    default: ""
  backups:
    description: Whether the server has backups.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
seealso: [{module: openmates.server.compose_info}, {module: openmates.server.host_info}]
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read the status
  openmates.server.status_info:
    project_src: /opt/openmates
    domain: api.example.com
  register: status
"""

RETURN = r"""
time:
  description: When it was read, in seconds since 1970, as all times here.
  type: float
  returned: always
services:
  description:
    - Each service's containers, the newest first, each with C(id), C(state) (Docker's term), C(health), C(exit_code),
      C(image), C(address), C(one_shot), C(created), C(started), C(finished), C(restarts), C(out_of_memory), C(memory)
      and C(memory_limit), both in bytes.
  type: dict
  returned: always
services_problem:
  description: Why they could not be read, or empty.
  type: str
  returned: always
vault:
  description: Its C(state), the C(token_seconds) for which the services' token is valid, C(problem), C(token_problem).
  type: dict
  returned: always
certificate:
  description: When it C(ends), or the C(problem). Empty without O(domain).
  type: dict
  returned: always
ready:
  description: The result of C(openmates-ready --json) with C(rc), C(stdout) and C(stderr).
  type: dict
  returned: always
backup:
  description: The result of C(openmates-backup status --json). Empty without O(backups).
  type: dict
  returned: always
maintenance:
  description: The flag of the maintenance state with C(owner), C(by), C(reason) and C(since); null while it is off.
  type: dict
  returned: always
move:
  description: What the server has recorded of a move to or from another one. Empty without a move.
  type: dict
  returned: always
drift:
  description: What the last run of C(openmates.server.drift) found and when. Empty without one.
  type: dict
  returned: always
scan:
  description: What this server has seen of the ports of other servers, as RV(scan.results). Empty if it scans none.
  type: dict
  returned: always
disks:
  description:
    - Each file system with a C(path) in it, the C(percent) used, the bytes C(free), and the C(days_left) until it is
      full, null if Prometheus does not have two measurements or it does not fill up.
  type: list
  elements: dict
  returned: always
updates:
  description: How many C(packages) have an update, how many of these for C(security), and the C(problem).
  type: dict
  returned: always
reboot:
  description: Whether a reboot is C(required), and the C(packages) that require it.
  type: dict
  returned: always
failed_units:
  description: The units that systemd reports as failed.
  type: list
  elements: str
  returned: always
killed_containers:
  description: The containers in which the kernel killed a process for memory in the last day, as far as it is known.
  type: list
  elements: str
  returned: always
runs:
  description: The last runs that C(ended), by C(/var/log/openmates/history.jsonl), and the one that is C(running).
  type: dict
  returned: always
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import docker_state, maintenance
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker
from ansible_collections.openmates.server.plugins.module_utils.status import (
    certificate,
    containers,
    disks,
    runs,
    system,
    vault_server,
)
from ansible_collections.openmates.server.plugins.module_utils.status.commands import run

READY = "/usr/local/sbin/openmates-ready"
BACKUP = "/usr/local/sbin/openmates-backup"
FLAG = Path("/var/lib/openmates-maintenance/flag.json")
HISTORY = Path("/var/log/openmates/history.jsonl")
LOCK = Path("/var/lib/openmates/change.lock")
MOVE = Path("/var/lib/openmates/move.json")
DRIFT = Path("/var/lib/openmates/drift.json")
SCAN = Path("/var/lib/openmates/scan.json")


def address_of(services: dict[str, list[dict]], name: str) -> str:
    """The address of a service's running container; empty without one."""
    return next((one["address"] for one in services.get(name, []) if one["state"] == "running"), "")


def read(given: dict) -> dict:
    """All of it. The parts are read at the same time."""
    services, problem = containers.found(Docker(docker_state.PROJECT))
    ask = disks.prometheus(address_of(services, "prometheus"))
    flag = maintenance.read(FLAG)
    parts: dict[str, Callable[[], object]] = {
        "ready": lambda: run(READY, "--json"),
        "vault": lambda: vault_server.found(
            address_of(services, "vault"), Path(given["project_src"], "secrets/vault-data/api.token")
        ),
        "certificate": lambda: certificate.found(given["domain"]) if given["domain"] else {},
        "backup": lambda: run(BACKUP, "status", "--json") if given["backups"] else {},
        "disks": lambda: disks.found(["/", given["docker_root"]], ask),
        "updates": system.updates,
        "reboot": system.reboot,
        "failed_units": system.failed_units,
        "killed_containers": system.killed_containers,
        "runs": lambda: runs.found(HISTORY, LOCK),
    }
    with ThreadPoolExecutor(len(parts)) as pool:
        results = {name: pool.submit(part) for name, part in parts.items()}
    return {
        "time": time.time(),
        "services": services,
        "services_problem": problem,
        "maintenance": flag._asdict() if flag else None,
        "move": runs.record(MOVE),
        "drift": runs.record(DRIFT),
        "scan": runs.record(SCAN),
        **{name: result.result() for name, result in results.items()},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "docker_root": {"type": "path", "default": docker_state.DEFAULT_ROOT},
            "domain": {"type": "str", "default": ""},
            "backups": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **read(module.params))


if __name__ == "__main__":
    main()
