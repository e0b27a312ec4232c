"""An operator's project, and runs of playbooks/create_server.yml in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from killing import kill_with_all_it_started
from server import TOKEN, HcloudApi

ROOT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmp9M1yXbAEQ64MJV+tq5qdeR7UOlfPgIXMW5oFSiQb"
SETTINGS = {
    "openmates_domain": "api.example.test",
    "openmates_admin_email": "operator@openmates.org",
    "openmates_frontend_urls": ["https://web.example.test"],
    "openmates_ssh_keys": [f"{KEY} me@laptop"],
    "openmates_ssh_sources": ["203.0.113.0/24", "2001:db8:9::/48"],
}

#: The file of secrets, which is made once: it takes seconds.
SECRETS: list[bytes] = []


class Operator:
    """A directory of an operator's own, whose inventory has a production server."""

    def __init__(self, folder: Path, api: HcloudApi, endpoint: str) -> None:
        self.folder, self.api, self.endpoint = folder, api, endpoint
        (folder / "password").write_text("a throwaway password")
        self.environment = {**os.environ, "HCLOUD_TOKEN": TOKEN, "HCLOUD_ENDPOINT": endpoint, "NO_PROXY": "*"}
        self.environment |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}
        self.environment |= {"ANSIBLE_VAULT_PASSWORD_FILE": str(folder / "password"), "HOME": str(folder)}
        self.write("hosts.yml", {"prod": {"hosts": {"openmates-prod": {"ansible_host": "203.0.113.10"}}}})
        self.write("group_vars/prod/main.yml", SETTINGS)
        secrets = folder / "prod/group_vars/prod/secrets.yml"
        if not SECRETS:
            assert self.run("secrets").returncode == 0
            SECRETS.append(secrets.read_bytes())
        secrets.write_bytes(SECRETS[0])

    def write(self, name: str, content: object) -> Path:
        file = self.folder / "prod" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    def set(self, **settings: object) -> None:
        self.write("group_vars/prod/zz_changed.yml", settings)  # Ansible prefers the last file

    @staticmethod
    def program(name: str) -> str:
        return str(Path(sys.executable).parent / name)

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [
            self.program("ansible-playbook"),
            str(ROOT / f"playbooks/{verb}.yml"),
            "-i",
            str(self.folder / "prod"),
            *arguments,
        ]

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, timeout=1800, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def create(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Create the server, without its provisioning."""
        return self.run("create_server", *QUICK, "-e", "create_server_bootstrap=false", *arguments)

    def create_killed_at(self, moment: int) -> bool:
        """Kill the run when Hetzner has made the change of this number, before it answers. False: it ended before."""
        done: list[str] = []

        def kill(method: str, path: str) -> None:
            done.append(path)
            if len(done) == moment:
                kill_with_all_it_started(process.pid)

        self.api.after_change = kill
        command = self.command("create_server", *QUICK, "-e", "create_server_bootstrap=false")
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        code = process.wait(timeout=1800)
        self.api.after_change = lambda method, path: None
        return code == -signal.SIGKILL


#: Short waits for a server that is busy.
QUICK = ("-e", "hetzner_delay=1", "-e", "hetzner_retries=4")


def changed(output: str) -> int:
    """How many tasks changed something, as Ansible counts them."""
    found = re.search(r"^openmates-prod .*changed=(\d+)", output, re.MULTILINE)
    assert found, output
    return int(found[1])


def message(output: str) -> str:
    """The output in one line: Ansible breaks long messages."""
    return " ".join(output.split())
