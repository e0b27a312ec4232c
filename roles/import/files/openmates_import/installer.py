# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that OpenMates' own installer made: its Compose project, what holds its data, and what has to be stopped.

The project is upstream's: containers and volumes are found by the labels and mounts that Docker has, so it does not
matter where the operator put it, or whether it was built from source. Nothing here changes it, apart from `stop`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

from openmates_backup import commands, files, state
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases, session
from openmates_backup.problem import Problem

from openmates_import.places import STAGING, STOPPED

OURS = "openmates"  # the name of this project's Compose project
DATABASE, VAULT, SETUP, CMS, API = "cms-database", "vault", "vault-setup", "cms", "api"
#: By the volume of this project that takes them: service and directory in its container.
FILES = {"cms-uploads": (CMS, "/directus/uploads"), "api-logs": (API, "/app/logs")}
#: What a request reaches first, then what acts by itself, then what those need to finish their tasks.
FIRST = ("admin-sidecar", "webapp", "api", "task-scheduler")
NEEDED = ("cms", "cache")
KEPT = (DATABASE, VAULT)
FINISH_SECONDS = 370  # a chat's answer may take 360
VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?\b")
UPDATES = "openmates-*-continuous-update.timer"


class Installer:
    """The containers of the installer's Compose project, running or not."""

    def __init__(self, project: str = "") -> None:
        """`project`: its name, where there are several. Raises Problem if there is not exactly one."""
        try:
            listed = _docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.service={DATABASE}")
        except FileNotFoundError:
            raise Problem("Docker is not installed here. Is this the server of the installer?") from None
        projects = {_label(found, "project") for found in _inspect(listed.split())}
        if projects == {OURS}:
            raise Problem("It is a server of this project already: move.yml moves it (docs/move.md).")
        projects = projects & {project} if project else projects - {OURS}
        if len(projects) != 1:
            found = f"there are {', '.join(sorted(projects))}" if projects else "there is none"
            raise Problem(
                f"It needs exactly one Compose project with the service {DATABASE}, as the installer makes it, and"
                f" {found}{f' named {project}' if project else ''}. `sudo docker compose ls --all` lists the projects,"
                " and -e import_project= names one."
            )
        [self.project] = projects
        every = _docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={self.project}")
        self.services = {
            _label(found, "service"): found for found in _inspect(every.split()) if _label(found, "oneoff") != "True"
        }

    # ------------------------------------------------------------ what it is

    @property
    def directory(self) -> str:
        """Where its Compose file is, as Compose has noted it."""
        return _label(self.services[DATABASE], "project.working_dir")

    @property
    def release(self) -> str:
        """The version of OpenMates, as far as the api's image names one."""
        image = self.services[API]["Config"]["Image"] if API in self.services else ""
        found = VERSION.search(image.rpartition(":")[2]) if ":" in image.rpartition("/")[2] else None
        return found[0] if found else ""

    def running(self, service: str) -> bool:
        return service in self.services and self.services[service]["State"]["Running"]

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a container. Some are secrets: only names and those that are none leave this program."""
        return dict(entry.split("=", 1) for entry in self.services[service]["Config"]["Env"] if "=" in entry)

    def mounted(self, service: str, path: str) -> Path | None:
        """The host's directory that a container has at a path."""
        mounts = self.services[service]["Mounts"] if service in self.services else []
        return next((Path(one["Source"]) for one in mounts if one["Destination"] == path), None)

    # ------------------------------------------------------------ its database

    @functools.cached_property
    def databases(self) -> Databases:
        return Databases(Containers(self.project), DATABASE)

    @property
    def database(self) -> str:
        found = self.environment(DATABASE)
        return found.get("POSTGRES_DB") or found.get("POSTGRES_USER") or "postgres"

    # ------------------------------------------------------------ its Vault

    @property
    def vault_storage(self) -> Path:
        """The directory of its file storage. Raises Problem."""
        folder = self.mounted(VAULT, "/vault/file")
        if folder is None or not (folder / "core").is_dir():
            raise Problem(
                "Its Vault has no file storage at /vault/file, which the installer's has. Only that can be copied."
            )
        return folder

    @property
    def vault_image(self) -> str:
        """The identity of the image: it is on this server, and reads what it wrote."""
        return self.services[VAULT]["Image"]

    def unseal_key(self) -> str:
        """Raises Problem."""
        folder = self.mounted(SETUP, "/app/data") or self.mounted(API, "/vault-data")
        try:
            return (folder / "unseal.key").read_text().strip() if folder else ""
        except OSError:
            return ""

    # ------------------------------------------------------------ stopping it

    def order(self) -> list[list[str]]:
        """The names of the running containers that write, in the order in which they are stopped."""
        running = [name for name in self.services if self.running(name) and name not in KEPT]
        first = [name for name in running if name in FIRST]
        last = [name for name in running if name in NEEDED]
        between = [name for name in running if name not in (*FIRST, *NEEDED)]
        return [
            [self.services[name]["Name"].lstrip("/") for name in group] for group in (first, between, last) if group
        ]

    def stop(self) -> list[str]:
        """Stop all that writes; it finishes requests and tasks. Which containers were stopped, now or earlier."""
        stopped = state.read(STOPPED).get("containers", [])
        STOPPED.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for group in self.order():
            stopped = sorted({*stopped, *group})
            state.write(STOPPED, {"containers": stopped})  # before, so that a killed run leaves a way back
            commands.output(["docker", "stop", f"--time={FINISH_SECONDS}", *group], "Stopping the old services")
        return stopped


def look(project: str = "") -> dict[str, t.Any]:
    """What an import has to know of the server, with all reasons why it cannot be imported. Changes nothing."""
    try:
        installer = Installer(project)
    except Problem as problem:
        return {"problems": [str(problem)]}
    problems: list[str] = []
    found: dict[str, t.Any] = {
        "problems": problems,
        "project": installer.project,
        "directory": installer.directory,
        "release": installer.release,
        "stops": [name for group in installer.order() for name in group],
        "stopped": state.read(STOPPED).get("containers", []),
        "environment": _names(installer),
        "volumes": {},
    }
    for name, (service, path) in FILES.items():
        if folder := installer.mounted(service, path):
            found["volumes"][name] = {"path": str(folder), "bytes": files.size(folder)}
    for part, work in (("database", _database), ("vault", _vault)):
        try:
            found[part] = work(installer)
        except Problem as problem:
            problems.append(str(problem))
    problems += _updates()
    problems += _room(found)
    return found


def _database(installer: Installer) -> dict[str, t.Any]:
    if not installer.running(DATABASE):
        raise Problem(f"Its service {DATABASE} does not run. Start it there: sudo docker start {DATABASE}")
    databases, name = installer.databases, installer.database
    if name not in databases.names():
        raise Problem(f"Its service {DATABASE} has no database {name}, which its POSTGRES_DB names.")
    with session(databases.program("psql"), name) as opened:
        if not opened.ask("select 1 from pg_catalog.pg_class where relname = 'directus_migrations' and relkind = 'r'"):
            raise Problem(f"Its database {name} has no tables of Directus: OpenMates was never started there.")
        return {
            "name": name,
            "major": int(opened.one("show server_version_num")) // 10000,
            "encoding": opened.one("show server_encoding"),
            "bytes": int(opened.one("select pg_database_size(current_database())")),
            "migrations": [version for [version] in opened.ask("select version from public.directus_migrations")],
            "users": int(opened.one("select count(*) from public.directus_users")),
            "collections": [one for [one] in opened.ask("select collection from public.directus_collections")],
            "others": [one for one in databases.names() if one not in (name, "postgres")],
        }


def _vault(installer: Installer) -> dict[str, t.Any]:
    if VAULT not in installer.services:
        raise Problem(f"There is no container of its service {VAULT}. Start the server as usual, and run this again.")
    if not installer.unseal_key():
        raise Problem(
            "The unseal key of its Vault cannot be read: the file unseal.key is missing in the volume"
            " openmates-vault-setup-data, where the installer keeps it. Restore that file there."
        )
    stored = [status for _, status in files.regular(installer.vault_storage)]
    # Each file takes at least a block.
    return {"files": len(stored), "bytes": sum((one.st_size + 4095) // 4096 * 4096 for one in stored)}


def _names(installer: Installer) -> list[str]:
    """The names of the settings in its .env that the containers were made with."""
    folder = Path(installer.directory)
    for place in (folder, *folder.parents[:3]):
        with contextlib.suppress(OSError):
            lines = (place / ".env").read_text().splitlines()
            pairs = [line.split("=", 1) for line in lines if re.match(r"[A-Za-z_][A-Za-z0-9_]*=.", line)]
            return sorted({name for name, value in pairs if value.strip("\"' ")})
    return []


def _updates() -> Iterator[str]:
    """The installer's own updates would start its services again."""
    with contextlib.suppress(OSError):
        listed = subprocess.run(
            ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", UPDATES],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        for line in listed.splitlines():
            timer = line.split()[0]
            yield f"{timer} would start its services again. Stop it there: sudo systemctl disable --now {timer}"


def _room(found: dict[str, t.Any]) -> Iterator[str]:
    needed = sum(one["bytes"] for one in found["volumes"].values())
    needed += sum(found.get(part, {}).get("bytes", 0) for part in ("database", "vault")) + (64 << 20)
    place = next(parent for parent in (STAGING, *STAGING.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        yield (
            f"The disk of {place} has {free >> 20} MiB free, and the copies of its data need {needed >> 20} MiB there."
            " Free some space: sudo docker image prune"
        )


def _docker(*arguments: str) -> str:
    return commands.output(["docker", *arguments], "Asking Docker for its containers").decode()


def _inspect(identities: list[str]) -> list[dict[str, t.Any]]:
    return json.loads(_docker("inspect", *identities)) if identities else []


def _label(container: dict[str, t.Any], name: str) -> str:
    return container["Config"]["Labels"].get(f"com.docker.compose.{name}", "")
