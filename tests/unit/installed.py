"""The collection as an operator has it: built and installed, with nothing of the checkout in sight."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
GIVEN = ["-e", "openmates_domain=api.mates.org", "-e", "openmates_admin_email=admin@mates.org"]


class Operator:
    """A home directory with the installed collection, and an empty directory in it to work in."""

    def __init__(self, home: Path) -> None:
        self.home, self.directory = home, home / "work"
        self.directory.mkdir(parents=True)

    @property
    def collection(self) -> Path:
        return self.home / ".ansible/collections/ansible_collections/openmates/server"

    def install(self) -> None:
        """Build the collection and install it where Ansible finds it. The bundle in site-packages has what it needs."""
        self.succeed("ansible-galaxy", "collection", "build", ROOT, "--output-path", self.home)
        [archive] = self.home.glob("openmates-server-*.tar.gz")
        self.succeed("ansible-galaxy", "collection", "install", "--offline", "--no-deps", archive)

    def run(self, *command: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess:
        """Run a command in the directory. It has no terminal, so that a prompt reads ``stdin``."""
        inherited = {name: os.environ[name] for name in ("LC_ALL", "LANG", "TMPDIR") if name in os.environ}
        environment = {
            **inherited,
            "PATH": f"{TOOLS}:/usr/bin:/bin",
            "HOME": str(self.home),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            **environment,
        }
        return subprocess.run(
            [TOOLS / str(command[0]), *map(str, command[1:])],
            cwd=self.directory,
            env=environment,
            input=stdin,
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def succeed(self, *command: str | Path, **options: str) -> str:
        done = self.run(*command, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def decrypted(self, file: str | Path, *arguments: str, **options: str) -> str:
        """The text of an encrypted file."""
        done = self.run("ansible-vault", "view", file, *arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *command: str | Path, **options: str) -> str:
        """The output of a command that fails, as one line."""
        done = self.run(*command, **options)
        assert done.returncode != 0, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def new(self, *arguments: str, directory: str = "operations", environment: str = "prod") -> list[str | Path]:
        """The command that creates a project."""
        names = ["-e", f"new_directory={directory}", "-e", f"new_environment={environment}"]
        return ["ansible-playbook", "openmates.server.new", *names, *arguments]
