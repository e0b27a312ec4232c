# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker on the server: what another installation left in it, and the directory that holds its data."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.module_utils.docker_state import DEFAULT_ROOT, PROJECT
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

OPTIONS = "openmates_docker_options"


def root_of(run: Preflight) -> str:
    """The real path of the directory that Docker is to keep its data in, as far as it is known."""
    declared = str((run.get(OPTIONS) or {}).get("data-root") or DEFAULT_ROOT)
    return (run.host.get("docker_disk") or {}).get("path") or declared


def check_foreign_containers(run: Preflight) -> Iterator[str]:
    directory = run.host.get("project_src") or str(run.get("openmates_directory", ""))
    ours = re.compile(rf"{PROJECT}-({'|'.join(map(re.escape, run.services)) or '-'})-\d+")
    for directory_of, names in sorted(_foreign_containers(run, directory, ours).items()):
        origin = f"of the Compose project in {directory_of}" if directory_of else "not made by Compose"
        remedy = (
            f"Stop and remove them on it, e.g. with `sudo docker compose --project-directory {directory_of} "
            f"--project-name {PROJECT} down`, or use a server of its own"
            if directory_of
            else f"Remove them with `sudo docker rm --force {' '.join(names)}`, or use a server of its own"
        )
        yield run.host_problem(
            f"there are containers with names of this project, {', '.join(names)}, {origin}",
            f"{remedy}. Volumes stay",
        )


def _foreign_containers(run: Preflight, directory: str, ours: re.Pattern) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in _objects(run, "container"):
        same_project = entry["project"] == PROJECT
        if (same_project and entry["directory"] != directory) or (not same_project and ours.fullmatch(entry["name"])):
            found.setdefault(entry["directory"] if same_project else "", []).append(entry["name"])
    return found


def check_foreign_networks(run: Preflight) -> Iterator[str]:
    for entry in _objects(run, "network"):
        if entry["name"] == PROJECT and entry["project"] != PROJECT:
            yield run.host_problem(
                f"there is a Docker network {PROJECT} of {_maker(entry)}, as OpenMates' own installer makes one",
                f"Stop what uses it, and run `sudo docker network rm {PROJECT}` on it",
            )


def check_foreign_volumes(run: Preflight) -> Iterator[str]:
    """OpenMates' own installer uses the same names for a database of another version and another storage of Vault."""
    name = "openmates_adopt_volumes"
    adopted = run.get(name, [])
    declared = {f"{PROJECT}-{volume}" for fields in run.services.values() for volume in fields.get("volumes") or {}}
    foreign = [
        entry
        for entry in _objects(run, "volume")
        if entry["name"] in declared and entry["project"] != PROJECT and entry["name"] not in adopted
    ]
    if foreign:
        names = sorted(entry["name"] for entry in foreign)
        makers = " and ".join(sorted({_maker(entry) for entry in foreign}))
        yield run.host_problem(
            f"the volumes {', '.join(names)} were made by {makers}, and the services would start on what is in them",
            "OpenMates' own installer uses these names for another version of Postgres and another storage of Vault: "
            "keep a copy of the data, then remove them with "
            f"`sudo docker volume rm {' '.join(names)}`, or use a server of its own. If their content fits, as that of "
            f"a restored backup does, name them in {name}",
        )
    unknown = sorted(set(adopted) - declared)
    if unknown:
        yield run.problem(
            name, f"no service has a volume {', '.join(unknown)}", f"Use names such as {min(declared, default=PROJECT)}"
        )


def _objects(run: Preflight, kind: str) -> Iterator[dict]:
    return (entry for entry in (run.host.get("docker") or {}).get("objects") or [] if entry["kind"] == kind)


def _maker(entry: dict) -> str:
    return f"the Compose project {entry['project']}" if entry["project"] else "another program than Compose"


def check_data_root(run: Preflight) -> Iterator[str]:
    options = run.get(OPTIONS) or {}
    declared = options.get("data-root")
    if declared is not None and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", str(declared), re.ASCII):
        yield run.problem(
            OPTIONS, f"data-root {declared!r} is not a directory", "Use an absolute path such as /mnt/data/docker"
        )
        return
    yield from _check_moved(run)
    disk = run.host.get("docker_disk") or {}
    if declared and disk and disk["mount"] != disk["mount_at_boot"]:
        if len(disk["mount"]) > len(disk["mount_at_boot"]):
            yield run.host_problem(
                f"{disk['mount']}, which holds Docker's data-root, is mounted now but not after the next boot: Docker "
                "would then start without any data",
                "Add it to /etc/fstab",
            )
        else:
            yield run.host_problem(
                f"{disk['mount_at_boot']}, which holds Docker's data-root by /etc/fstab, is not mounted",
                f"Mount it: `sudo mount {disk['mount_at_boot']}`",
            )


def _check_moved(run: Preflight) -> Iterator[str]:
    """Docker with another directory starts without what it has in its present one."""
    present, wanted = (run.host.get("docker") or {}).get("root"), root_of(run)
    kept = sorted(entry["name"] for entry in _objects(run, "volume"))
    if present and kept and present.rstrip("/") != wanted.rstrip("/"):
        yield run.problem(
            OPTIONS,
            f"Docker's data-root would be {wanted}, but the volumes are in {present}",
            "Move the data first, on the server: `sudo systemctl stop docker.socket docker && "
            f"sudo cp --archive {present}/. {wanted}/`, then run site.yml",
        )


def check_options(run: Preflight) -> Iterator[str]:
    """Options of the daemon that have no effect on the project's network, or break it."""
    options = run.get(OPTIONS) or {}
    if "mtu" in options:
        yield run.problem(
            OPTIONS,
            "mtu has an effect on docker0 only, not on the network of the services",
            "Set openmates_mtu instead",
        )
    servers = options.get("dns") or []
    for server in servers if isinstance(servers, list) else [servers]:
        try:
            address = ipaddress.ip_address(str(server))
        except ValueError:
            yield run.problem(OPTIONS, f"dns: {server!r} is not an address", "Write a list of addresses")
            continue
        if address.is_loopback or address.is_link_local:
            yield run.problem(
                OPTIONS,
                f"dns: {server} cannot be reached from a container",
                "Name a server that has an address of its own",
            )
    if "proxies" in options and run.get("openmates_http_proxy"):
        yield run.problem(
            OPTIONS,
            "proxies and openmates_http_proxy are both set",
            "Remove proxies: the setting is for all of the server",
        )


CHECKS = (
    check_foreign_containers,
    check_foreign_networks,
    check_foreign_volumes,
    check_data_root,
    check_options,
)
