#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump the database of a Compose project before it is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: directus_backup
short_description: Dump a PostgreSQL database of a Compose project into a file
description:
  - Dumps the database with the C(pg_dump) of its own container, so that the versions match.
  - Only root can read the dump.
  - Does nothing if there is no database yet, or if it has no tables.
  - An incomplete dump is not kept. Older dumps are removed only after a new one is complete.
options:
  project_src:
    description: The directory with the Compose files.
    type: path
    required: true
  service:
    description: The database's service. Its existing container is started if it is not running.
    type: str
    required: true
  volume:
    description: The volume with its data. If it does not exist, there is nothing to dump.
    type: str
    required: true
  database:
    description: Name of the database, and of its user.
    type: str
    default: directus
  stop:
    description: Services to stop first, so that the dump is complete. They stay stopped.
    type: list
    elements: str
    default: []
  retry:
    description:
      - Whether the last change failed. The dump then overwrites that of the failed attempt, so that repeated attempts
        do not displace the dump from before the first.
    type: bool
    default: false
  directory:
    description: Directory of the dumps.
    type: path
    required: true
  keep:
    description: How many dumps to keep.
    type: int
    default: 5
attributes:
  check_mode: {support: full, description: Reports that it would dump, if there is a database.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Back up Directus's database
  openmates.server.directus_backup:
    project_src: /opt/openmates
    service: cms-database
    volume: openmates-postgres-data
    directory: /var/backups/openmates/directus
"""

RETURN = r"""
path:
  description: The dump, or an empty string if there was nothing to dump.
  type: str
  returned: success
removed:
  description: Older dumps that were removed.
  type: list
  elements: str
  returned: success
"""

import os
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder

SUFFIX = ".dump"


class BackupProblem(Exception):
    """Why there is no dump."""


class Database:
    """The database's container, through Compose."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.docker = module.get_bin_path("docker")

    def compose(self, *arguments: str) -> str:
        code, output, error = self.module.run_command(
            [self.docker, "compose", "--ansi=never", *arguments], cwd=self.params["project_src"]
        )
        if code:
            raise BackupProblem(f"docker compose {arguments[0]} failed: {error.strip() or output.strip()}")
        return output

    def has_data(self) -> bool:
        if not self.docker or not (Path(self.params["project_src"]) / "docker-compose.yml").exists():
            return False
        return self.module.run_command([self.docker, "volume", "inspect", self.params["volume"]])[0] == 0

    def start(self) -> None:
        """Start the existing container, even if the Compose files changed; no other service depends on it yet."""
        self.compose("up", "--detach", "--no-deps", "--no-recreate", "--wait", self.params["service"])

    def has_tables(self) -> bool:
        count = "select count(*) from information_schema.tables where table_schema = 'public'"
        return self.inside("psql", "-Atqc", count).strip() != "0"

    def inside(self, *command: str) -> str:
        return self.compose("exec", "--no-TTY", self.params["service"], command[0], *self.login(), *command[1:])

    def login(self) -> list[str]:
        return ["-U", self.params["database"], "-d", self.params["database"]]

    def dump(self, path: Path) -> None:
        """Write a dump atomically."""
        draft = path.with_suffix(".part")
        command = [self.docker, "compose", "exec", "--no-TTY", self.params["service"]]
        command += ["pg_dump", *self.login(), "--format=custom"]
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                done = subprocess.run(
                    command, cwd=self.params["project_src"], stdout=file, stderr=subprocess.PIPE, check=False
                )
                file.flush()
                os.fsync(file.fileno())
            if done.returncode:
                raise BackupProblem(f"pg_dump failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")
            draft.rename(path)
            sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)


def stale(directory: Path, keep: int) -> list[Path]:
    """The dumps beyond the newest `keep`, by the time in their names."""
    return sorted(directory.glob(f"*-[0-9]*Z{SUFFIX}"))[: -max(keep, 1)]


def back_up(module: AnsibleModule) -> dict:
    params, database = module.params, Database(module)
    nothing = {"changed": False, "path": "", "removed": []}
    if not database.has_data():
        return nothing
    directory = Path(params["directory"])
    moment = "retry" if params["retry"] else time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = directory / f"{params['database']}-{moment}{SUFFIX}"
    if module.check_mode:
        return {**nothing, "changed": True, "path": str(path)}
    database.start()
    if not database.has_tables():
        return nothing
    if params["stop"]:
        database.compose("stop", *params["stop"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    database.dump(path)
    old = stale(directory, params["keep"])
    for dump in old:
        dump.unlink()
    return {"changed": True, "path": str(path), "removed": [str(dump) for dump in old]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "service": {"type": "str", "required": True},
            "volume": {"type": "str", "required": True},
            "database": {"type": "str", "default": "directus"},
            "stop": {"type": "list", "elements": "str", "default": []},
            "retry": {"type": "bool", "default": False},
            "directory": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**back_up(module))
    except (BackupProblem, OSError) as problem:
        module.fail_json(msg=f"The database was not backed up, so it is not changed: {problem}")


if __name__ == "__main__":
    main()
