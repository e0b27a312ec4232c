"""The Vault modules and the role against a real OpenBao server, through ansible-playbook, on this machine.

With VAULT_BINARY=/path/to/vault the same tests run against HashiCorp Vault. The playbooks run with -vvv and everything
they print is kept: the last test looks for every secret in all of it. fake_host.py stands for the host's systemd.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import hvac
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.loader import init_plugin_loader
from killing import kill_with_all_it_started

init_plugin_loader([str(Path(__file__).parents[2] / "collections")])

from ansible_collections.openmates.server.plugins.module_utils import vault  # noqa: E402

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


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(self.url.removeprefix("http://").split(":")):
                return
            time.sleep(0.05)
        pytest.fail(f"OpenBao did not start within 20 s:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End the server as a power cut would."""
        if self.process:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        """Stop and start, which leaves Vault sealed."""
        self.stop()
        self.start()

    def reset(self) -> None:
        """What the role does with container and volume."""
        self.stop()
        shutil.rmtree(self.data)
        self.start()

    def client(self, token: str = "") -> hvac.Client:
        """A client with that token, or with none."""
        return hvac.Client(self.url, token=token)


@dataclass
class Run:
    """What one ansible-playbook run did."""

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
        self.marker = self.host / ".vault-init"
        self.token_file = self.host / "secrets" / "vault-data" / "api.token"
        self.password_file = self.folder / "password"
        self.password_file.write_bytes(PASSWORD)
        (self.folder / "ansible.cfg").write_text(
            f"[defaults]\nroles_path={ROOT}/roles\ncollections_path={ROOT}/collections\n"
            f"connection_plugins={self.folder}/connection\n"
            f"local_tmp={self.folder}/tmp/local\nremote_tmp={self.folder}/tmp/remote\n[connection]\npipelining=true\n"
        )
        (self.folder / "connection").mkdir()
        (self.folder / "connection" / "loud.py").write_text(LOUD_CONNECTION)
        self.variables = {
            "vault_url": self.bao.url,
            "vault_root_url": self.bao.root_url,
            "vault_container": "",
            "vault_engine": ENGINE,
            "vault_keys_file": str(self.keys_file),
            "__vault_units": str(self.host),
            "__vault_credentials": str(self.host / "credentials"),
            "__vault_program": str(self.host / "vault-host.py"),
            "vault_compose_project_src": str(self.host),
            "vault_secret_shares": 3,
            "vault_secret_threshold": 2,
            "vault_token_uid": os.getuid(),
            "vault_token_gid": os.getgid(),
            "vault_token_period": "24h",
            "vault_seeds": {"providers/sample": {"api_key": SEED}},
            **self.variables,
        }

    def kill(self, moment: str) -> None:
        """Start the role and kill it with all that it started, at a moment like "before vault_unseal"."""
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

    def service(self, name: str) -> tuple[int, str]:
        """Run one of the host's units and return its exit code and its words."""
        command = [self.commands / "systemctl", "restart", f"openmates-vault-{name}.service"]
        done = subprocess.run(command, env=self.environment())
        return done.returncode, (self.host / f"openmates-vault-{name}.service.said").read_text()

    def environment(self) -> dict[str, str]:
        """The environment of the host's and the controller's commands."""
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "FAKE_HOST": str(self.host),
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
        """Remove what only the command was for: its variables hold seeds."""
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
        """What the keys file, or another encrypted one, holds."""
        content = VaultLib([("default", VaultSecret(PASSWORD))]).decrypt((file or self.keys_file).read_bytes())
        return yaml.safe_load(content)

    def root(self) -> hvac.Client:
        """A client with a root token that the shares made, as the first one is revoked."""
        maker = hvac.Client(self.bao.root_url, token="")
        token = vault.generate_root(maker, self.keys()["unseal_shares"])
        self.secrets.add(token)
        return self.bao.client(token)

    def token(self) -> str:
        """The services' token."""
        return self.token_file.read_text()

    def learn_secrets(self) -> None:
        """Remember every secret there is now, in each form that it could be printed in."""
        if self.token_file.exists():
            self.secrets.add(self.token())
        if self.keys_file.exists():
            keys = self.keys()
            shares = keys.get("unseal_shares", [])
            self.secrets |= {keys["root_token"], *shares, *(base64.b64decode(share).hex() for share in shares)}
        if self.access_file.exists():
            self.secrets.add(self.keys(self.access_file)["secret_id"])


@pytest.fixture(scope="module")
def seen():
    """All that was printed and all that was secret."""
    return {"outputs": [], "secrets": {SEED}, "folders": []}


@pytest.fixture(scope="module")
def make_site(tmp_path_factory, seen):
    """A function that makes a host with a running, empty Vault."""
    servers = []

    def make(name: str) -> Site:
        folder = tmp_path_factory.mktemp(name)
        seen["folders"].append(folder)
        bao = Bao(folder / "vault")
        servers.append(bao)
        bao.start()
        return Site(folder, bao, seen["outputs"], seen["secrets"])

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def provisioned(make_site) -> Site:
    """A host on which the role ran once, after a run in check mode that left it untouched."""
    site = make_site("provisioned")

    check = site.play(None, "--check")
    assert check.code == 0, check.output
    assert check.changed > 0
    assert list(site.host.iterdir()) == [] and not site.keys_file.exists()
    assert site.bao.client().sys.is_initialized() is False

    run = site.play()
    assert run.code == 0, run.output
    site.policy = site.root().sys.read_acl_policy("openmates-manage")["data"]["policy"]
    return site


# ---------------------------------------------------------------- the ladder


def test_after_check_and_run_both_change_nothing(provisioned):
    site = provisioned
    assert not site.marker.exists()
    assert stat.S_IMODE(site.keys_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in site.keys_file.parent.iterdir()) == ["keys.access.yml", "keys.yml"]
    assert len(site.keys()["unseal_shares"]) == 3
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o400
    keys, token = site.keys_file.read_bytes(), site.token()

    for arguments in (["--check"], []):
        again = site.play(None, *arguments)
        assert (again.code, again.changed) == (0, 0), again.output
        assert again.calls == ["vault_config", "vault_host"], "a run with nothing to do has to be two calls to the host"
    assert (site.keys_file.read_bytes(), site.token()) == (keys, token)


def test_drift_is_foretold_and_put_right_and_rotated_secrets_stay(provisioned):
    site, root = provisioned, provisioned.root()
    root.sys.create_or_update_acl_policy("api-service", 'path "secret/*" { capabilities = ["read"] }')
    root.sys.create_or_update_acl_policy("somebody-elses", 'path "secret/*" { capabilities = ["read"] }')
    root.secrets.kv.v2.create_or_update_secret("providers/sample", {"api_key": "rotated"}, mount_point="kv")
    root.secrets.kv.v2.create_or_update_secret("providers/other", {"api_key": "by hand"}, mount_point="kv")
    root.secrets.kv.v2.create_or_update_secret("providers/gone", {"api_key": "x"}, mount_point="kv")
    root.secrets.kv.v2.delete_latest_version_of_secret("providers/gone", mount_point="kv")
    old = site.token()
    changed = {
        "vault_token_period": "48h",
        "vault_seeds": {path: {"api_key": SEED} for path in ("providers/sample", "providers/gone", "providers/new")},
    }

    def names(run: Run) -> list[str]:
        return re.findall(r"^\+((?:policy|token|seed|engine) .*)$", run.output, re.M)

    foretold = site.play(None, "--check", **changed)
    assert foretold.code == 0, foretold.output
    assert "48h" not in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert "secret/*" in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert site.token() == old

    done = site.play(None, **changed)
    assert done.code == 0, done.output
    assert (
        names(foretold)
        == names(done)
        == [
            "policy api-service: updated",
            f"token in {site.token_file}: to be issued, because it has another period",
            "seed kv/providers/new: written",
        ]
    )
    read = root.secrets.kv.v2.read_secret_version
    assert "secret/*" not in root.sys.read_acl_policy("api-service")["data"]["policy"]
    assert "secret/*" in root.sys.read_acl_policy("somebody-elses")["data"]["policy"]
    assert read("providers/sample", mount_point="kv", raise_on_deleted_version=False)["data"]["data"] == {
        "api_key": "rotated"
    }
    assert read("providers/new", mount_point="kv", raise_on_deleted_version=False)["data"]["data"] == {"api_key": SEED}
    assert site.token() != old
    assert site.play(None, **changed).changed == 0
    site.variables.update(changed)


def test_the_service_token_is_what_the_contract_says(provisioned):
    root, token = provisioned.root(), provisioned.token()
    found = root.auth.token.lookup(token)["data"]
    assert found["orphan"] is True
    assert found["policies"] == ["api-encryption", "api-service"]
    assert found["explicit_max_ttl"] == 0
    root.secrets.kv.v2.create_or_update_secret("providers/readable", {"api_key": "y"}, mount_point="kv")

    service = provisioned.bao.client(token)
    kv, transit = service.secrets.kv.v2, service.secrets.transit
    assert service.auth.token.lookup_self()["data"]["period"] == found["period"]
    assert service.auth.token.renew_self()["auth"]["lease_duration"] == found["period"]
    read = kv.read_secret_version("providers/readable", mount_point="kv", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"api_key": "y"}
    kv.create_or_update_secret("user-draft-aes-keys/one", {"key": "z"}, mount_point="kv")
    kv.delete_latest_version_of_secret("user-draft-aes-keys/one", mount_point="kv")
    transit.create_key("user_one")
    secret = transit.encrypt_data("user_one", base64.b64encode(b"text").decode())["data"]["ciphertext"]
    assert base64.b64decode(transit.decrypt_data("user_one", secret)["data"]["plaintext"]) == b"text"
    assert transit.generate_hmac("user_one", base64.b64encode(b"text").decode())["data"]["hmac"]

    for refused in (
        lambda: kv.create_or_update_secret("providers/readable", {"a": "b"}, mount_point="kv"),
        lambda: kv.delete_latest_version_of_secret("providers/readable", mount_point="kv"),
        lambda: kv.read_secret_metadata("providers/readable", mount_point="kv"),
        lambda: kv.read_secret_version("elsewhere", mount_point="kv", raise_on_deleted_version=True),
        lambda: transit.encrypt_data("never_made", base64.b64encode(b"text").decode()),
        lambda: transit.read_key("user_one", mount_point="other"),
        lambda: service.auth.token.create(),
        lambda: service.auth.token.lookup(provisioned.keys()["root_token"]),
        lambda: service.sys.list_mounted_secrets_engines(),
        lambda: service.sys.list_policies(),
        lambda: service.sys.seal(),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            refused()


def test_a_sealed_vault_is_unsealed_and_a_lost_token_replaced(provisioned):
    site = provisioned
    keys = site.keys_file.read_bytes()
    site.root().auth.token.revoke(site.token())
    site.bao.restart()
    assert site.bao.client().sys.is_sealed()

    check = site.play(None, "--check")
    assert check.code == 0, check.output
    assert check.changed == 1
    assert site.bao.client().sys.is_sealed()

    run = site.play()
    assert run.code == 0, run.output
    assert "to be issued, because it is not valid" in run.output
    assert site.root().auth.token.lookup(site.token())["data"]["orphan"]
    assert site.keys_file.read_bytes() == keys


def test_no_root_token_is_left_and_none_is_needed(provisioned):
    """The runs after the first one were made while no root token was valid, and the ones before this left none."""
    site = provisioned
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(site.keys()["root_token"]).auth.token.lookup_self()
    site.play()  # ends the root tokens that the tests made
    (site.host / ".vault-root").write_text('{"init_id": "root"}')
    again = site.play()
    assert re.findall(r"^\+(root tokens: .*)$", again.output, re.M)
    assert again.calls == ["vault_config", "vault_host"]
    root = site.root()
    mine = root.auth.token.lookup_self()["data"]["accessor"]
    left = [token for token in vault.tokens(root) if "root" in token["policies"] and token["accessor"] != mine]
    assert left == []


def test_a_widened_managing_identity_is_put_right_with_the_shares(provisioned):
    site, root = provisioned, provisioned.root()
    root.sys.create_or_update_acl_policy("openmates-manage", 'path "*" { capabilities = ["sudo", "read"] }')
    foretold, done = site.play(None, "--check"), site.play()
    for run in (foretold, done):
        assert run.code == 0, run.output
        assert "+login openmates-manage: mended with a root token, because the managing identity may do" in run.output
    assert site.root().sys.read_acl_policy("openmates-manage")["data"]["policy"].strip() == site.policy.strip()
    manager = vault.log_in(site.bao.url, "openmates-manage", site.keys(site.access_file)["secret_id"], 5)
    policy = 'path "*" { capabilities = ["sudo"] }'
    for refused in (
        lambda: manager.sys.create_or_update_acl_policy("openmates-manage", policy),
        lambda: manager.sys.create_or_update_acl_policy("another", policy),
        lambda: manager.adapter.post("/v1/auth/approle/role/openmates-manage", json={"token_policies": ["root"]}),
        lambda: manager.secrets.kv.v2.read_secret_version("chat-aes-keys/x", mount_point="kv"),
        lambda: manager.auth.token.create(policies=["root"]),
        lambda: manager.sys.take_raft_snapshot(),
        lambda: manager.sys.seal(),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            refused()


def test_seeds_are_ensured_enforced_or_generated_and_one_is_rotated(provisioned, seen):
    site = provisioned
    seen["secrets"] |= {"canary-enforced-1", "canary-rotated-2", "canary-by-hand-3"}
    seeds = {
        "providers/plain": {"ensure": {"api_key": SEED}},
        "providers/strict": {"enforce": {"api_key": "canary-enforced-1"}},
        "system/made": {"generate": {"key": 40}},
    }
    first = site.play(vault_seeds=seeds)
    assert first.code == 0, first.output
    kv = site.root().secrets.kv.v2

    def read(path: str) -> dict:
        return kv.read_secret_version(path, mount_point="kv", raise_on_deleted_version=True)["data"]

    made = read("system/made")["data"]["key"]
    assert re.fullmatch(r"[A-Za-z0-9]{40}", made)
    seen["secrets"].add(made)
    by_hand = {"api_key": "canary-by-hand-3", "more": "canary-by-hand-3"}
    for path in ("providers/plain", "providers/strict"):
        kv.create_or_update_secret(path, by_hand, mount_point="kv")
    second = site.play(vault_seeds=seeds)
    assert "+seed kv/providers/strict: put right" in second.output and "providers/plain: " not in second.output
    assert read("providers/plain")["data"] == by_hand
    assert read("providers/strict")["data"] == {**by_hand, "api_key": "canary-enforced-1"}
    assert read("system/made")["data"]["key"] == made
    assert site.play(vault_seeds=seeds).changed == 0

    fields = {"vault_rotate_fields": {"api_key": "canary-rotated-2"}, "vault_rotate_services": [], "vault_seeds": seeds}
    rotated = site.role("rotate", vault_rotate_path="providers/plain", **fields)
    assert rotated.code == 0, rotated.output
    after = read("providers/plain")
    assert (after["data"]["api_key"], after["data"]["more"]) == ("canary-rotated-2", "canary-by-hand-3")
    versions = kv.read_secret_metadata("providers/plain", mount_point="kv")["data"]["versions"]
    assert {int(n): version["destroyed"] for n, version in versions.items()} == {1: True, 2: True, 3: False}
    refused = site.role("rotate", vault_rotate_path="providers/strict", **fields)
    assert refused.code != 0 and "enforced by the inventory" in refused.output


def test_the_way_in_when_all_else_is_lost(provisioned):
    """The managing identity's secret is gone, and somebody needs a root token: the shares are enough for both."""
    site = provisioned
    site.access_file.unlink()
    mended = site.play()
    assert mended.code == 0 and "because the managing identity cannot log in" in mended.output, mended.output
    made = site.role("root")
    assert made.code == 0, made.output
    token = site.keys(site.folder / "keys" / "keys.root.yml")["root_token"]
    site.secrets.add(token)
    assert site.bao.client(token).auth.token.lookup_self()["data"]["policies"] == ["root"]
    assert site.play().code == 0
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(token).auth.token.lookup_self()
    assert site.play().changed == 0


def test_the_host_unseals_vault_and_keeps_the_token_by_itself(provisioned):
    site = provisioned
    for name in ("shares", "api"):
        assert stat.S_IMODE((site.host / f"credentials/openmates-vault-{name}").stat().st_mode) == 0o600
    site.bao.restart()
    assert site.service("token") == (0, ""), "nothing to say: the unit that unseals is at it"
    assert site.service("unseal") == (0, "Vault was sealed, and is open again\n")
    assert site.service("unseal") == (0, "")

    site.root().auth.token.revoke(site.token())
    old = site.token()
    code, said = site.service("token")
    assert (code, said) == (0, "The services have a new token, because the one they had is not valid\n")
    assert site.token() != old and site.service("token") == (0, "")
    site.learn_secrets()

    operator = site.play(vault_unseal="operator")
    assert operator.code == 0, operator.output
    assert [path.name for path in (site.host / "credentials").iterdir()] == ["openmates-vault-api"]
    assert list(site.host.glob("openmates-vault-unseal.*")) == [site.host / "openmates-vault-unseal.service.said"]
    site.bao.restart()
    code, said = site.service("token")
    assert code == 1 and "playbooks/unseal.yml" in said
    opened = site.role("operator", vault_unseal="operator")
    assert opened.code == 0, opened.output
    assert site.service("token") == (0, "")
    assert site.play().code == 0, "back to the host"

    shares = site.host / "credentials/openmates-vault-shares"
    right = shares.read_bytes()
    wrong = {"init_id": "x", "shares": [base64.b64encode(os.urandom(33)).decode() for _ in range(2)]}
    seal = [site.commands / "systemd-creds", "encrypt", "--name=openmates-vault-shares", "-"]
    done = subprocess.run(seal, input=json.dumps(wrong).encode(), capture_output=True, env=site.environment())
    shares.write_bytes(done.stdout)
    site.bao.restart()
    code, said = site.service("unseal")
    assert code == 1 and "do not open this Vault" in said
    shares.write_bytes(right)
    assert site.service("unseal")[0] == 0
    site.bao.stop()
    code, said = site.service("unseal")
    assert code == 1 and "does not answer" in said
    site.bao.start()
    assert site.service("unseal")[0] == 0


def test_a_snapshot_comes_back_onto_a_new_vault_without_its_tokens(provisioned, make_site):
    site = provisioned
    root = site.root()
    revoked = root.auth.token.create_orphan(policies=["default"])["auth"]["client_token"]
    snapshot = site.folder / "taken.snap"
    files = {"vault_snapshot_file": str(snapshot), "vault_snapshot_on_host": str(site.host / "vault.snap")}
    taken = site.role("snapshot", **files)
    assert taken.code == 0, taken.output
    assert not (site.host / "vault.snap").exists()
    root.auth.token.revoke(revoked)
    old_login = site.keys(site.access_file)["secret_id"]
    before = root.secrets.kv.v2.read_secret_version("providers/sample", mount_point="kv", raise_on_deleted_version=True)

    refused = site.role("restore", **files)
    assert refused.code != 0 and "vault_restore_replace=true" in refused.output
    damaged_file = site.folder / "damaged.snap"
    damaged_file.write_bytes(snapshot.read_bytes()[: snapshot.stat().st_size // 2])
    site.bao.reset()
    refused = site.role("restore", **{**files, "vault_snapshot_file": str(damaged_file)})
    assert refused.code != 0 and "cut short" in refused.output
    assert not site.bao.client().sys.is_initialized()
    stopped = site.play()
    assert stopped.code != 0 and "vault_restore.yml" in stopped.output

    restored = site.role("restore", **files)
    assert restored.code == 0, restored.output
    assert not list(site.host.glob(".vault-*"))
    root = site.root()
    after = root.secrets.kv.v2.read_secret_version("providers/sample", mount_point="kv", raise_on_deleted_version=True)
    assert after["data"]["data"] == before["data"]["data"]
    with pytest.raises(hvac.exceptions.Forbidden):
        site.bao.client(revoked).auth.token.lookup_self()
    site.secrets.add(old_login)
    assert site.bao.client(site.token()).auth.token.lookup_self()["data"]["orphan"]
    assert site.play().changed == 0


def test_shares_that_nobody_sees(make_site, tmp_path):
    """With PGP keys the shares are encrypted before they leave Vault, and their holders are asked for them."""
    site = make_site("pgp")
    gpg = ["gpg", "--homedir", str(tmp_path), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    tmp_path.chmod(0o700)
    subprocess.run([*gpg, "--quick-generate-key", "holder@example.org", "default", "default"], check=True)
    key = base64.b64encode(subprocess.run([*gpg, "--export"], capture_output=True, check=True).stdout).decode()
    pgp = {"vault_pgp_keys": [key] * 3, "vault_unseal": "operator"}
    first = site.play(**pgp)
    assert first.code != 0 and "those who hold them have to run playbooks/unseal.yml" in first.output
    assert set(site.keys()) == {"init_id", "unseal_threshold", "pgp_shares", "root_token"}
    shares = [
        subprocess.run(
            [*gpg, "--decrypt"], input=base64.b64decode(share), capture_output=True, check=True
        ).stdout.decode()
        for share in site.keys()["pgp_shares"]
    ]
    site.secrets |= set(shares)
    opened = site.role("operator", vault_given_shares=shares[:2], **pgp)
    assert not site.bao.client().sys.is_sealed(), opened.output
    second = site.play(**pgp)
    assert second.code == 0, second.output
    assert site.play(**pgp).changed == 0
    refused = site.play(**{**pgp, "vault_unseal": "host"})
    assert refused.code != 0 and "set vault_unseal: operator" in refused.output


# ---------------------------------------------------------------- killed runs


@pytest.mark.parametrize("moment", ["after vault_init", "before vault_unseal", "before vault_kv2_write"])
def test_killed_at_the_worst_moments_three_times_each(make_site, moment):
    """Between init and custody, between custody and unseal, between unseal and seed."""
    site = make_site(moment.replace(" ", "-"))
    keys = None
    for _ in range(3):
        if moment == "after vault_init" and site.bao.client().sys.is_initialized():
            site.bao.reset()  # what the role does on a host with Docker, see test_interrupted.py
        elif moment == "before vault_unseal":
            site.bao.restart()
        elif keys:
            site.root().secrets.kv.v2.delete_metadata_and_all_versions("providers/sample", mount_point="kv")
        site.kill(moment)
        assert site.keys_file.exists() is (moment != "after vault_init")
        assert keys is None or site.keys_file.read_bytes() == keys
        keys = site.keys_file.read_bytes() if site.keys_file.exists() else None
    if moment == "after vault_init":
        assert site.marker.exists() and site.bao.client().sys.is_initialized()
        site.bao.reset()
    run = site.play()
    assert run.code == 0, run.output
    assert keys is None or site.keys_file.read_bytes() == keys
    assert not list(site.host.glob(".vault-*"))
    seed = site.root().secrets.kv.v2.read_secret_version(
        "providers/sample", mount_point="kv", raise_on_deleted_version=True
    )
    assert seed["data"]["data"] == {"api_key": SEED}
    assert site.play().changed == 0


def init_task(site: Site) -> dict:
    return {
        "openmates.server.vault_init": {
            "url": "{{ vault_url }}",
            "keys_file": str(site.keys_file),
            "marker": str(site.marker),
            "secret_shares": 3,
            "secret_threshold": 2,
        }
    }


def mark(site: Site, init_id: str) -> None:
    site.marker.write_text(json.dumps({"init_id": init_id}))


def test_killed_before_and_after_the_initialisation(make_site):
    """The marker is there, first with an empty Vault, then with one whose answer was lost."""
    site = make_site("killed")
    mark(site, "an earlier run")
    answer = site.bao.client().sys.initialize(3, 2)
    site.secrets |= {answer["root_token"], *answer["keys"], *answer["keys_base64"]}

    report = [
        {**init_task(site), "register": "result"},
        {"ansible.builtin.assert": {"that": ["result.must_reset", "not result.changed"]}},
    ]
    run = site.play(report)
    assert run.code == 0, run.output
    assert site.marker.exists() and not site.keys_file.exists()
    check = site.play(None, "--check")
    assert (check.code, site.bao.client().sys.is_initialized()) == (0, True), check.output

    site.bao.reset()
    run = site.play()
    assert run.code == 0, run.output
    assert not site.marker.exists()
    assert site.keys()["init_id"] != "an earlier run"


@pytest.mark.parametrize("sealed", [True, False])
def test_killed_between_custody_and_the_end_of_the_marker(provisioned, sealed):
    site = provisioned
    mark(site, site.keys()["init_id"])
    keys = site.keys_file.read_bytes()
    if sealed:
        site.bao.restart()
    else:
        site.token_file.chmod(0o444)
    run = site.play()
    assert run.code == 0, run.output
    assert not site.marker.exists()
    assert site.keys_file.read_bytes() == keys
    if not sealed:
        assert "owner and mode put right" in run.output
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o400


# ---------------------------------------------------------------- errors


def damaged(share: str) -> str:
    """The share with its key's first byte changed."""
    raw = bytearray(base64.b64decode(share))
    raw[0] ^= 1
    return base64.b64encode(raw).decode()


def test_one_clear_error_each_and_nothing_changed(provisioned, make_site, seen):
    site, empty = provisioned, make_site("empty")
    site.bao.restart()
    shares = site.keys()["unseal_shares"]
    foreign = [base64.b64encode(os.urandom(33)).decode() for _ in range(3)]
    seen["secrets"] |= {*foreign, damaged(shares[1]), "bm90IGEgc2hhcmU!"}
    other_marker = site.host / ".other-marker"
    other_marker.write_text(json.dumps({"init_id": "another"}))
    no_marker, no_keys = site.host / ".no-marker", site.folder / "keys" / "missing.yml"
    keys = site.keys_file.read_bytes()
    root_url = site.bao.root_url

    def unseal(given: list[str], url: str = site.bao.url) -> dict:
        return {"openmates.server.vault_unseal": {"url": url, "shares": given, "deadline": 1}}

    def init(keys_file: Path, marker: Path, url: str = site.bao.url) -> dict:
        arguments = {"url": url, "keys_file": str(keys_file), "marker": str(marker), "deadline": 1}
        return {"openmates.server.vault_init": arguments}

    def config(**arguments: object) -> dict:
        files = {"keys_file": str(site.keys_file), "access_file": str(site.access_file)}
        markers = {"root_marker": str(site.host / ".root"), "wipe_marker": str(site.host / ".wipe")}
        given = {"url": site.bao.url, "deadline": 5, "access_policy": site.policy, **files, **markers, **arguments}
        return {"openmates.server.vault_config": given}

    nowhere = f"http://127.0.0.1:{free_port()}"
    cases = [
        (unseal(shares[:1]), "Vault needs 2 different unseal shares, but only 1"),
        (unseal([shares[0], "bm90IGEgc2hhcmU!"]), "Unseal share 2 of 2 is neither base64 nor hex"),
        (unseal(foreign), "The unseal shares do not open this Vault"),
        (unseal([shares[0], damaged(shares[1])]), "The unseal shares do not open this Vault"),
        (unseal(shares, nowhere), "Is the Vault container running"),
        (unseal(shares, empty.bao.url), "Vault is not initialised"),
        (init(no_keys, no_marker), "Bring that file back"),
        (init(site.keys_file, other_marker), "keys of another initialisation"),
        (init(site.keys_file, no_marker, empty.bao.url), "move the keys file away"),
        (init(Path("keys.yml"), no_marker), "absolute path on the controller"),
        (init(no_keys, empty.folder / "missing" / "marker", empty.bao.url), "marker"),
        (unseal(shares), None),
        (init(no_keys, other_marker), "Vault has been unsealed since"),
        (config(engines=[{"path": "transit", "type": "kv"}]), "already holds another engine"),
        (config(roles=[{"name": "openmates-api", "policies": ["a"], "period": "soon"}]), "is not a duration"),
        (config(seeds_enforce={"elsewhere/x": {"a": "a value"}}), "is outside of what may be seeded"),
        (
            config(access_policy="# another", elevate=True, shares=foreign, root_url=root_url),
            "do not make a root token",
        ),
        (config(access_policy="# another", elevate=True, shares=shares[:1], root_url=root_url), "needs 2 different"),
    ]
    tasks = []
    for number, (task, _) in enumerate(cases):
        tasks.append({**task, "register": f"result_{number}", "ignore_errors": True})
    results = site.folder / "results.json"
    everything = ", ".join(f"result_{number}" for number in range(len(cases)))
    tasks.append({"ansible.builtin.copy": {"dest": str(results), "content": f"{{{{ [{everything}] | to_json }}}}"}})

    run = site.play(tasks)
    assert run.code == 0, run.output
    for (task, message), result in zip(cases, json.loads(results.read_text()), strict=True):
        if message is None:
            assert not result.get("failed"), (task, result)
        else:
            assert result.get("failed") and message in result["msg"], (list(task), message, result.get("msg"))
    seen["outputs"].append(results.read_text())
    assert empty.bao.client().sys.is_initialized() is False
    assert not no_keys.exists()
    assert other_marker.exists()
    assert site.keys_file.read_bytes() == keys


def test_a_keys_file_of_another_password_stops_before_the_host_is_asked(provisioned):
    wrong = provisioned.folder / "wrong-password"
    wrong.write_text("another password")
    run = provisioned.play(None, "--vault-password-file", str(wrong))
    assert run.code != 0
    assert run.calls == []
    assert str(provisioned.keys_file) in run.output
    assert "Decryption failed" in run.output


def test_check_mode_works_where_there_is_no_vault_yet(make_site):
    site = make_site("bare")
    site.bao.stop()
    for url in ("", site.bao.url):
        run = site.play(None, "--check", vault_url=url)
        assert run.code == 0, run.output
        assert run.changed > 0
    assert list(site.host.iterdir()) == []


# ---------------------------------------------------------------- no secret anywhere; runs last


def leaks(texts: list[str], secrets: set[str]) -> list[str]:
    return [secret for secret in secrets if any(secret in text for text in texts)]


def test_no_secret_was_printed_or_left_in_a_file(seen):
    assert len(seen["secrets"]) > 10, "run this test with the others"
    assert any('"custody": ' in output for output in seen["outputs"]), "the answer with the keys was to be seen, hidden"
    assert leaks(seen["outputs"], seen["secrets"]) == []
    files = {
        path: path.read_text(errors="replace")
        for folder in seen["folders"]
        for path in folder.rglob("*")
        if path.is_file() and path.name != "api.token" and "raft" not in path.parts
    }
    assert [path for path, text in files.items() if leaks([text], seen["secrets"])] == []
    assert leaks([*seen["outputs"], f"planted: {SEED}"], seen["secrets"]) == [SEED], "the search itself has to work"
