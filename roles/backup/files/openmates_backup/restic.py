# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""restic: the repository, and the secrets that it needs, which are in no argument and no file on a disk."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

from openmates_backup.commands import reason
from openmates_backup.config import Config
from openmates_backup.problem import Problem

SETTING = "openmates_backup_repository"
INCOMPLETE, MISSING, LOCKED, WRONG_PASSWORD = 3, 10, 11, 12  # exit codes


class NoRepository(Problem):
    """There is nothing at the repository's address."""


class Restic:
    """The repository of a configuration."""

    def __init__(self, config: Config, secrets: t.Mapping[str, str]) -> None:
        """`secrets`: password, and what the repository's kind needs: s3_key_id and s3_secret, or sftp_key."""
        self.config = config
        self._open: list[int] = []
        self._ssh_log = ""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_"))},
            "RESTIC_REPOSITORY": config.repository,
            "RESTIC_PASSWORD_FILE": self._secret_file(secrets["password"]),
            "RESTIC_CACHE_DIR": str(config.directory / "cache"),
            "TMPDIR": str(config.directory / "cache"),
            "HOME": str(config.directory),
        }
        self._options = [f"--retry-lock={config.lock_wait:.0f}s", "--cleanup-cache"]
        if secrets.get("s3_secret"):
            keys = f"aws_access_key_id={secrets['s3_key_id']}\naws_secret_access_key={secrets['s3_secret']}\n"
            self._environment["AWS_SHARED_CREDENTIALS_FILE"] = self._secret_file(f"[default]\n{keys}")
        if secrets.get("sftp_key"):
            self._options.append(f"--option=sftp.args={shlex.join(self._ssh(secrets['sftp_key']))}")

    def _secret_file(self, content: str) -> str:
        """A path that children of this process can read, to a file in memory only."""
        descriptor = os.memfd_create("secret")
        self._open.append(descriptor)
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content.encode())
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def _ssh(self, key: str) -> list[str]:
        """The options of ssh: this key alone, and no server but the known one."""
        known = self._secret_file(self.config.known_hosts.rstrip("\n") + "\n")
        options = ["IdentitiesOnly=yes", "BatchMode=yes", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none"]
        options += ["StrictHostKeyChecking=yes", "ServerAliveInterval=60", "ServerAliveCountMax=4", "ConnectTimeout=30"]
        self._ssh_log = self._secret_file("")  # restic loses what ssh prints when it ends at once
        key_file = self._secret_file(key.rstrip("\n") + "\n")
        return ["-E", self._ssh_log, "-i", key_file, *(f"-o{option}" for option in options)]

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def call(self, *arguments: str, accept: t.Collection[int] = (0,)) -> tuple[int, str]:
        """The exit code, if it is one of those, and the output. Raises Problem."""
        done = self._run(arguments, accept)
        return done.returncode, done.stdout

    def _run(self, arguments: t.Sequence[str], accept: t.Collection[int]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["restic", *self._options, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in accept:
            said = Path(self._ssh_log).read_text(errors="replace") if self._ssh_log else ""
            raise self._problem(arguments[0], done.returncode, (done.stderr or done.stdout) + said)
        return done

    def _problem(self, verb: str, code: int, output: str) -> Problem:
        address = self.config.repository
        if code == MISSING:
            return NoRepository(f"There is no repository at {address} ({SETTING}).")
        if code == WRONG_PASSWORD:
            return Problem(
                f"The password does not open the repository {address}. openmates_backup_password has to be the one that"
                " the repository was made with."
            )
        if code == LOCKED:
            return Problem(
                f"The repository {address} is still locked by another program after {self.config.lock_wait:.0f} s:"
                f" {reason(output)}. Run backup.yml when that program has ended; the lock of a dead one is removed"
                " after half an hour."
            )
        return Problem(f"`restic {verb}` failed at {address} ({SETTING}): {reason(output)}.")

    def lines(self, *arguments: str, accept: t.Collection[int] = (0,)) -> tuple[int, list[dict[str, t.Any]]]:
        """The exit code, and restic's messages in JSON, one per line; errors are on standard error. Raises Problem."""
        done = self._run([arguments[0], "--json", *arguments[1:]], accept)
        found = []
        for line in (done.stdout + done.stderr).splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return done.returncode, found

    def json(self, *arguments: str) -> t.Any:
        """The answer of a command that gives one. Raises Problem."""
        _, output = self.call(arguments[0], "--json", *arguments[1:])
        try:
            return json.loads(output)
        except ValueError:
            raise Problem(f"`restic {arguments[0]}` does not answer in JSON: {reason(output)}.") from None

    def repository_id(self) -> str:
        """Raises NoRepository if there is none, and Problem."""
        return json.loads(self.call("cat", "config", "--no-lock")[1])["id"]

    def snapshots(self) -> list[dict[str, t.Any]]:
        """The snapshots of this host and environment, the oldest first. Raises Problem."""
        found = self.json("snapshots", "--no-lock", f"--host={self.config.host}", f"--tag={self.config.tags}") or []
        return sorted(found, key=lambda snapshot: snapshot["time"])

    def dump(self, snapshot: str, path: str) -> str:
        """A text file of a snapshot. Raises Problem."""
        return self.call("dump", "--no-lock", snapshot, path)[1]

    def save(self, snapshot: str, path: str, target: Path) -> None:
        """Write a file of a snapshot to another one, readable by root only. Raises Problem and OSError."""
        target.touch(0o600)
        with target.open("wb") as file:
            command = ["restic", *self._options, "dump", "--no-lock", snapshot, path]
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
        if done.returncode:
            raise self._problem("dump", done.returncode, done.stderr.decode(errors="replace"))


@contextlib.contextmanager
def opened(config: Config, secrets: t.Mapping[str, str]) -> Iterator[Restic]:
    """restic with secrets that last as long as the block."""
    restic = Restic(config, secrets)
    try:
        yield restic
    finally:
        restic.close()
