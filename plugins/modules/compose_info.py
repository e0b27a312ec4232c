#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report how a Compose project on the host differs from its files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_info
short_description: Compare a Docker Compose project with its files, changing nothing
description:
  - Reports each service's container, and which services C(docker compose up) would create, replace or start.
  - A service is outdated when it has no container, when its container was created from another definition (by Compose's
    own configuration hash) or from another image than its tag refers to now, when it should run and does not, or when
    it is a one-shot that never exited with 0, or when it has more than one container, as after an interrupted roll-out.
  - Compose never changes an existing network or volume, so those that differ from the files are reported as well.
  - A host without Docker or without the project is reported as one where everything is outdated, not as an error.
  - A module of our own because it is on the path of every run, and M(community.docker.docker_compose_v2) in check mode
    reports neither stale networks and volumes nor the reason for a change.
options:
  project_src:
    description: The directory with the Compose files.
    type: path
    required: true
  vault:
    description: The service that runs Vault, whose engine and version are read from its server. Empty to leave it out.
    type: str
    default: ""
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read the state of the services
  openmates.server.compose_info:
    project_src: /opt/openmates
  register: compose
"""

RETURN = r"""
converged:
  description: >-
    Whether every service of the files exists, is up to date and in its proper state, no other container exists, and
    networks and volumes are as declared.
  type: bool
  returned: always
outdated:
  description: Maps the name of each outdated service to the reason.
  type: dict
  returned: always
  sample: {api: its definition has changed}
orphans:
  description: Names of services that have containers in the project but are no longer in its files.
  type: list
  elements: str
  returned: always
stale_networks:
  description: >-
    Maps each existing network whose options differ from the files to the difference. It can only be removed and created
    again.
  type: dict
  returned: always
  sample: {demo: "subnets: 172.20.0.0/16, declared: 172.30.0.0/24"}
stale_volumes:
  description: >-
    Volumes that do not exist, or whose owner differs from their label C(openmates.owner), C(uid:gid). Keys are name,
    owner, a service that mounts it for writing, and the path of the mount.
  type: list
  elements: dict
  returned: always
  sample: [{name: demo_data, owner: "1000:1000", service: web, target: /data}]
services:
  description: >-
    The state of each service. Keys are state (Docker's term, or missing), health (healthy, unhealthy, starting or
    empty), exit_code, image, address (its IPv4 address on the project's network), one_shot, software and stand_in
    (labels of images made by the lab).
  type: dict
  returned: always
problem:
  description: Why the project could not be read, or empty.
  type: str
  returned: always
"""

import json
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
from ansible_collections.openmates.server.plugins.module_utils.vault import version

#: Options of a network that the engine may or may not report: the size of the largest packet.
NETWORK_DEFAULTS = {"com.docker.network.driver.mtu": "1500"}


def reason_outdated(one_shot: bool, expected_hash: str, container: dict | None, image_id: str = "") -> str:
    """Why Compose would change a service, or an empty string.

    image_id: the image that the service's tag refers to on this host; empty if the host has none.
    """
    if container is None:
        return "it has no container"
    if container["Config"]["Labels"].get("com.docker.compose.config-hash") != expected_hash:
        return "its definition has changed"
    if image_id and container["Image"] != image_id:
        return "its image was rebuilt under the same tag"
    state = container["State"]
    if one_shot:
        finished = state["Status"] == "exited" and state["ExitCode"] == 0
        return "" if finished else f"it did not exit with 0 (state {state['Status']}, exit code {state['ExitCode']})"
    return "" if state["Status"] == "running" else f"it is {state['Status']}"


def summary(one_shot: bool, container: dict | None) -> dict:
    """The facts about a service's container that other roles use."""
    if container is None:
        return {
            "state": "missing",
            "health": "",
            "exit_code": 0,
            "image": "",
            "address": "",
            "one_shot": one_shot,
            "software": "",
            "stand_in": "",
        }
    labels = container["Config"]["Labels"]
    networks = container["NetworkSettings"]["Networks"].values()
    return {
        "state": container["State"]["Status"],
        "health": container["State"].get("Health", {}).get("Status", ""),
        "exit_code": container["State"]["ExitCode"],
        "image": container["Config"]["Image"],
        "address": next((network["IPAddress"] for network in networks if network["IPAddress"]), ""),
        "one_shot": one_shot,
        "software": labels.get("org.openmates.lab.software", ""),
        "stand_in": labels.get("org.openmates.lab.stand-in", ""),
    }


def newest_by_service(containers: list[dict]) -> dict[str, dict]:
    """One container per service: the newest that is not a one-off of ``docker compose run``."""
    newest: dict[str, dict] = {}
    for container in sorted(containers, key=lambda item: item["Created"]):
        labels = container["Config"]["Labels"]
        if labels.get("com.docker.compose.oneoff") != "True":
            newest[labels["com.docker.compose.service"]] = container
    return newest


def surplus(service: str, containers: list[dict]) -> str:
    """Why a service with too many containers is outdated, or an empty string."""
    own = [
        container
        for container in containers
        if container["Config"]["Labels"].get("com.docker.compose.service") == service
        and container["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"
    ]
    return f"it has {len(own)} containers: a roll-out was interrupted" if len(own) > 1 else ""


def network_difference(declared: dict, network: dict) -> str:
    """How a network differs from the declaration, or an empty string. The engine chooses undeclared options."""
    ranges = {entry["Subnet"]: entry for entry in network["IPAM"]["Config"]}
    wanted = {entry["subnet"]: entry for entry in declared.get("ipam", {}).get("config", []) if "subnet" in entry}
    if wanted and set(wanted) != set(ranges):
        return f"subnets: {', '.join(sorted(ranges))}, declared: {', '.join(sorted(wanted))}"
    if declared.get("enable_ipv6", False) != network["EnableIPv6"]:
        return f"IPv6: {network['EnableIPv6']}, declared: {declared.get('enable_ipv6', False)}"
    for subnet, entry in wanted.items():
        for key, actual in (("gateway", "Gateway"), ("ip_range", "IPRange")):
            if key in entry and entry[key] != ranges[subnet].get(actual):
                return f"{key}: {ranges[subnet].get(actual) or 'none'}, declared: {entry[key]}"
    # Without the option packets have the engine's own size: a network that was created with another one differs.
    options = NETWORK_DEFAULTS | (network["Options"] or {})
    for option, value in (NETWORK_DEFAULTS | declared.get("driver_opts", {})).items():
        if options.get(option) != value:
            return f"{option}: {options.get(option) or 'none'}, declared: {value}"
    return ""


def owned_volumes(project: dict) -> list[dict]:
    """The volumes whose owner is declared, each with one writable mount."""
    found = []
    for key, volume in project.get("volumes", {}).items():
        owner = (volume.get("labels") or {}).get("openmates.owner")
        mounts = (
            {"name": volume["name"], "owner": owner, "service": service, "target": mount["target"]}
            for service, definition in project["services"].items()
            for mount in definition.get("volumes", [])
            if mount["type"] == "volume" and mount.get("source") == key and not mount.get("read_only")
        )
        if owner and (mount := next(mounts, None)):
            found.append(mount)
    return found


def owner(path: str) -> str:
    """The owner of a directory as uid:gid; empty if it does not exist."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{stat.st_uid}:{stat.st_gid}"


class Reader:
    """Reads the files by Compose, and what there is by the engine's API, without a process for each question."""

    def __init__(self, module: AnsibleModule, project_src: str) -> None:
        self.module = module
        self.docker = module.get_bin_path("docker")
        self.project_src = project_src
        self.engine = Docker("")

    def problem(self) -> str:
        """Why the project cannot be read, or an empty string."""
        if not self.docker:
            return "Docker is not installed"
        if not (Path(self.project_src) / "docker-compose.yml").is_file():
            return f"there is no docker-compose.yml in {self.project_src}"
        try:
            self.engine.call("GET", "/_ping")
        except DockerProblem as error:
            return str(error).rstrip(".")
        return ""

    def declared(self) -> tuple[dict, dict[str, str]]:
        """The project, and the hash of each service's definition. Compose reads the files for each, side by side."""
        config = [self.docker, "compose", "config"]
        commands = [*config, "--format", "json"], [*config, "--hash", "*"]
        with ThreadPoolExecutor(len(commands)) as pool:
            answers = list(pool.map(self._run, commands))
        for answer in answers:
            if answer.returncode:
                self.module.fail_json(msg=f"{shlex.join(answer.args)} failed: {answer.stderr.strip()}")
        project, hashes = (answer.stdout for answer in answers)
        return json.loads(project), dict(line.split() for line in hashes.splitlines() if line)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.project_src, capture_output=True, text=True, check=False)

    def containers(self, project: str) -> list[dict]:
        return Docker(project).containers(running=False)

    def existing(self, kind: str, names: list[str]) -> dict[str, dict]:
        """The engine's description of the images, networks or volumes with these names that exist."""
        found = {name: self.engine.inspect(kind, name) for name in names}
        return {name: item for name, item in found.items() if item}

    def stale_networks(self, project: dict) -> dict[str, str]:
        declared = {network["name"]: network for network in project.get("networks", {}).values()}
        found = self.existing("networks", list(declared))
        differences = {name: network_difference(declared[name], network) for name, network in found.items()}
        return {name: difference for name, difference in differences.items() if difference}

    def stale_volumes(self, project: dict) -> list[dict]:
        declared = owned_volumes(project)
        found = self.existing("volumes", [volume["name"] for volume in declared])
        return [
            volume
            for volume in declared
            if volume["name"] not in found or owner(found[volume["name"]]["Mountpoint"]) != volume["owner"]
        ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={"project_src": {"type": "path", "required": True}, "vault": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    reader = Reader(module, module.params["project_src"])
    problem = reader.problem()
    if problem:
        nothing = {"outdated": {}, "orphans": [], "services": {}, "stale_networks": {}, "stale_volumes": []}
        module.exit_json(changed=False, converged=False, problem=problem, **nothing)
    project, hashes = reader.declared()
    found = reader.containers(project["name"])
    containers = newest_by_service(found)
    references = {definition.get("image", "") for definition in project["services"].values()}
    images = reader.existing("images", sorted(references - {""}))
    services, outdated = {}, {}
    for name, definition in project["services"].items():
        one_shot = definition.get("restart") == "no"
        services[name] = summary(one_shot, containers.get(name))
        image_id = images.get(definition.get("image", ""), {}).get("Id", "")
        reason = reason_outdated(one_shot, hashes[name], containers.get(name), image_id) or surplus(name, found)
        if reason:
            outdated[name] = reason
    if vault := services.get(module.params["vault"]):
        vault["reported"] = version.ask(vault["address"]) if vault["address"] else ""
    orphans = sorted(set(containers) - set(services))
    stale_networks, stale_volumes = reader.stale_networks(project), reader.stale_volumes(project)
    module.exit_json(
        changed=False,
        converged=not (outdated or orphans or stale_networks or stale_volumes),
        outdated=outdated,
        orphans=orphans,
        stale_networks=stale_networks,
        stale_volumes=stale_volumes,
        services=services,
        problem="",
    )


if __name__ == "__main__":
    main()
