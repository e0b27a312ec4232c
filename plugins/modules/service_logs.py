#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the log of a service, from Loki or from Docker."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_logs
short_description: Read the log of a service of the Compose project
version_added: 0.1.0
description:
  - Asks Loki, which has the lines of containers that were replaced, too. Where Loki does not have them, Docker is
    asked, and the reason is returned.
  - A module of our own because no module of another collection asks Loki, and M(community.docker.docker_container_exec)
    and C(docker logs) know only containers that exist.
options:
  service:
    description: The service.
    type: str
    required: true
  seconds:
    description: How old the oldest line may be.
    type: int
    required: true
  grep:
    description: A regular expression that the lines match. Empty for all.
    type: str
    default: ""
  limit:
    description: How many lines are returned, the newest. Loki returns no more than 5000.
    type: int
    default: 1000
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read the log
  openmates.server.service_logs:
    service: api
    seconds: 600
    grep: "ERROR|CRITICAL"
"""

RETURN = r"""
source:
  description: C(Loki) or C(Docker).
  type: str
  returned: success
reason:
  description: Why it is not from Loki, or empty.
  type: str
  returned: success
lines:
  description: Each line with its time, the container and the text, the oldest first.
  type: list
  elements: str
  returned: success
"""

import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import docker_state
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
from ansible_collections.openmates.server.plugins.module_utils.logs import docker, loki
from ansible_collections.openmates.server.plugins.module_utils.logs.line import Line, NotThere, Wanted

MOST = 5000


def shown(line: Line) -> str:
    """A line for an operator."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(line.time // 10**9))
    return f"{moment} {line.container} {line.text}"


def read(wanted: Wanted) -> tuple[str, str, list[Line]]:
    """The source, why it is not Loki, and the lines. Raises NotThere."""
    try:
        address = Docker(docker_state.PROJECT).address("loki") if docker_state.RUNNING.exists() else None
        if not address:
            raise NotThere("its container does not run")
        return "Loki", "", loki.lines(address, wanted)
    except (NotThere, DockerProblem) as problem:
        return "Docker", str(problem), docker.lines(docker_state.PROJECT, wanted)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "seconds": {"type": "int", "required": True},
            "grep": {"type": "str", "default": ""},
            "limit": {"type": "int", "default": 1000},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        re.compile(given["grep"])
        wanted = Wanted(
            given["service"], time.time() - given["seconds"], given["grep"], max(1, min(given["limit"], MOST))
        )
        source, reason, lines = read(wanted)
    except re.error as error:
        module.fail_json(msg=f"The search text is no regular expression: {error}. Write \\ before special characters.")
    except NotThere as problem:
        module.fail_json(msg=f"The log cannot be read: {problem}")
    module.exit_json(changed=False, source=source, reason=reason, lines=[shown(line) for line in lines])


if __name__ == "__main__":
    main()
