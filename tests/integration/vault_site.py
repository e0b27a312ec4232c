"""A controller, a host and the OpenBao server that it has, on this machine; the role runs through ansible-playbook.

With VAULT_BINARY=/path/to/vault the same tests run against HashiCorp Vault. The playbooks run with -vvv and everything
they print is kept, for the last test of each file looks for every secret in all of it. fake_host.py stands for the
host's systemd.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import hvac
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.openmates.server.plugins.module_utils.vault import tokens
from killing import kill_with_all_it_started
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
#: The server under test, and which of the two engines it is.
SERVER = os.environ.get("VAULT_BINARY") or (str(BIN / "bao") if (BIN / "bao").exists() else "bao")
ENGINE = "vault" if os.environ.get("VAULT_BINARY") else "openbao"
SEED = "canary-provider-key-7d1f"
PASSWORD = b"a throwaway password"

# Shows at -vvv what a module answers, as the ssh connection does and the local one does not.
# With a file HOLD it stops before or after the module named there, so that the run can be killed at that moment.
LOUD_CONNECTION = """
import pathlib, time
from ansible.plugins.connection.local import Connection as Local, DOCUMENTATION
from ansible.utils.display import Display

HOLD = pathlib.Path(__file__).parent / "hold"


class Connection(Local):
    def hold(self, moment, data):
        wanted, _, module = HOLD.read_text().partition(" ") if HOLD.exists() else ("", "", "")
        if wanted == moment and f"modules.{module}".encode() in (data or b""):
            HOLD.with_name("held").touch()
            time.sleep(600)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        self.hold("before", in_data)
        answer = super().exec_command(cmd, in_data, sudoable)
        self.hold("after", in_data)
        Display().vvv(str(answer))
        return answer
"""


class Bao:
    """An OpenBao (or Vault) server with raft storage below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "raft"
        self.config = folder / "bao.hcl"
        self.log = folder / "bao.log"
        self.audit = folder / "audit.log"
        port, cluster_port, root_port = free_port(), free_port(), free_port()
        self.url, self.root_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{root_port}"
        folder.mkdir(parents=True)
        openbao = ENGINE == "openbao"
        audit = f'audit "file" "log" {{ options {{ file_path = "{self.audit}" }} }}'
        self.config.write_text(
            f'storage "raft" {{\n  path = "{self.data}"\n  node_id = "test"\n  performance_multiplier = 1\n}}\n'
            f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n'
            f'  cluster_address = "127.0.0.1:{cluster_port}"\n  tls_disable = true\n}}\n'
            f'listener "tcp" {{\n  address = "127.0.0.1:{root_port}"\n'
            f'  cluster_address = "127.0.0.1:{free_port()}"\n  tls_disable = true\n'
            f"{'  disable_unauthed_generate_root_endpoints = false' if openbao else ''}\n}}\n"
            f"{audit if openbao else 'disable_mlock = true'}\n"
            f'api_addr = "{self.url}"\ncluster_addr = "http://127.0.0.1:{cluster_port}"\n'
        )
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self.data.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([SERVER, "server", f"-config={self.config}"], stdout=log, stderr=log)
        end = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(self.url.removeprefix("http://").split(":")):
                return
            time.sleep(0.05)
        pytest.fail(f"OpenBao did not start, or not within 120 s:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Kill the server as a power failure would."""
        if self.process:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        """Stop and start, which leaves Vault sealed."""
        self.stop()
        self.start()

    def reset(self) -> None:
        """Container and volume operations of the role."""
        self.stop()
        shutil.rmtree(self.data)
        self.start()

    def client(self, token: str = "") -> hvac.Client:
        """A client with that token, or with none."""
        return hvac.Client(self.url, token=token)


@dataclass
class Run:
    """The result of one ansible-playbook run."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        return int(re.search(r"changed=(\d+)", self.output)[1])

    @property
    def calls(self) -> list[str]:
        """The modules that were sent to the host."""
        return re.findall(r"Using module file .*/(\w+)\.py", self.output)


@dataclass
class Site:
    """A controller and a host, both below one folder, and the Vault that the host has."""

    folder: Path
    bao: Bao
    outputs: list[str]
    secrets: set[str]
    variables: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host = self.folder / "host"
        self.host.mkdir(parents=True)
        self.keys_file = self.folder / "keys" / "keys.yml"
        self.access_file = self.folder / "keys" / "keys.access.yml"
        self.commands = self.folder / "bin"
        self.commands.mkdir()
        for name in ("systemd-creds", "systemctl", "journalctl"):
            (self.commands / name).symlink_to(ROOT / "tests/integration/fake_host.py")
        self.state = self.host / "state"
        self.marker = self.state / "vault-init"
        self.token_file = self.host / "secrets" / "vault-data" / "api.token"
        self.password_file = self.folder / "password"
        self.password_file.write_bytes(PASSWORD)
        (self.folder / "ansible.cfg").write_text(
            f"[defaults]\ninternal_poll_interval=0.01\nroles_path={ROOT}/roles\ncollections_path={ROOT}/collections\n"
            f"connection_plugins={self.folder}/connection\n"
            f"local_tmp={self.folder}/tmp/local\nremote_tmp={self.folder}/tmp/remote\n[connection]\npipelining=true\n"
        )
        (self.folder / "connection").mkdir()
        (self.folder / "connection" / "loud.py").write_text(LOUD_CONNECTION)
        self.variables = {
            "vault_packages_missing": [],  # this machine has hvac in another place than a host
            "vault_url": self.bao.url,
            "vault_root_url": self.bao.root_url,
            "vault_container": "",
            "vault_engine": ENGINE,
            "vault_keys_file": str(self.keys_file),
            "__vault_units": str(self.host),
            "__vault_credentials": str(self.host / "credentials"),
            "__vault_program": str(self.host / "vault-host.py"),
            "vault_compose_project_src": str(self.host),
            "vault_state_directory": str(self.state),
            "vault_secret_shares": 3,
            "vault_secret_threshold": 2,
            "vault_token_uid": os.getuid(),
            "vault_token_gid": os.getgid(),
            "vault_token_period": "24h",
            "vault_seeds": {"providers/sample": {"api_key": SEED}},
            **self.variables,
        }

    def kill(self, moment: str) -> None:
        """Start the role and kill it and its descendants, at a moment like "before vault_unseal"."""
        hold, held = (self.folder / "connection" / name for name in ("hold", "held"))
        hold.write_text(moment)
        held.unlink(missing_ok=True)
        command, environment = self.command(None, (), {})
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not held.exists() and run.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        running = run.poll() is None
        kill_with_all_it_started(run.pid)
        run.wait()
        hold.unlink()
        self.tidy_up()
        assert held.exists() and running, f"the run never came to {moment}"

    def role(self, entry: str, *arguments: str, **variables: object) -> Run:
        """Run one of the role's other entry points."""
        return self.play(
            [{"ansible.builtin.import_role": {"name": "vault", "tasks_from": entry}}], *arguments, **variables
        )

    def service(self, name: str, patience: int = 60) -> tuple[int, str]:
        """Run one of the host's units, which waits that many seconds for Vault; its exit code and output."""
        command = [self.commands / "systemctl", "restart", f"openmates-vault-{name}.service"]
        done = subprocess.run(command, env={**self.environment(), "FAKE_PATIENCE": str(patience)})
        return done.returncode, (self.host / f"openmates-vault-{name}.service.said").read_text()

    def environment(self) -> dict[str, str]:
        """The environment of the host's and the controller's commands."""
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "FAKE_HOST": str(self.host),
            "FAKE_PATIENCE": "60",
            "FAKE_VAULT": self.bao.url.removeprefix("http://"),
        }

    def play(self, tasks: list | None = None, *arguments: str, **variables: object) -> Run:
        """Run the role, or `tasks`, on localhost and keep all that is printed."""
        command, environment = self.command(tasks, arguments, variables)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        self.tidy_up()
        self.outputs.append(done.stdout + done.stderr)
        self.learn_secrets()
        return Run(done.returncode, done.stdout + done.stderr)

    def tidy_up(self) -> None:
        """Remove the command's variables file, which holds seeds."""
        for name in ("variables.json", "play.yml"):
            (self.folder / name).unlink()

    def command(self, tasks: list | None, arguments: tuple, variables: dict) -> tuple[list, dict[str, str]]:
        """The command that `play` runs, and its environment."""
        content = {"roles": ["vault"]} if tasks is None else {"tasks": tasks}
        playbook = self.folder / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **content}]))
        given = {"ansible_connection": "loud", "ansible_python_interpreter": sys.executable}
        variable_file = self.folder / "variables.json"
        variable_file.write_text(json.dumps({**given, **self.variables, **variables}))
        command = [BIN / "ansible-playbook", "-vvv", "--diff", "-i", "localhost,", *arguments]
        command += ["-e", f"@{variable_file}"]
        if "--vault-password-file" not in arguments:
            command += ["--vault-password-file", self.password_file]
        return [*command, playbook], self.environment()

    def keys(self, file: Path | None = None) -> dict:
        """The content of the keys file, or of another encrypted one."""
        content = VaultLib([("default", VaultSecret(PASSWORD))]).decrypt((file or self.keys_file).read_bytes())
        return yaml.safe_load(content)

    def root(self) -> hvac.Client:
        """A client with a root token that the shares made, as the first one is revoked."""
        maker = hvac.Client(self.bao.root_url, token="")
        token = tokens.generate_root(maker, self.keys()["unseal_shares"])
        self.secrets.add(token)
        return self.bao.client(token)

    def token(self) -> str:
        """The services' token."""
        return self.token_file.read_text()

    def mark(self, init_id: str) -> None:
        """Leave the marker of an interrupted initialisation."""
        self.state.mkdir(exist_ok=True)
        self.marker.write_text(json.dumps({"init_id": init_id}))

    def provision(self) -> None:
        """Run the role for the first time."""
        run = self.play()
        assert run.code == 0, run.output
        self.policy = self.root().sys.read_acl_policy("openmates-manage")["data"]["policy"]

    def learn_secrets(self) -> None:
        """Record every current secret, in each form that could be printed."""
        if self.token_file.exists():
            self.secrets.add(self.token())
        if self.keys_file.exists():
            keys = self.keys()
            shares = keys.get("unseal_shares", [])
            self.secrets |= {keys["root_token"], *shares, *(base64.b64decode(share).hex() for share in shares)}
        if self.access_file.exists():
            self.secrets.add(self.keys(self.access_file)["secret_id"])
