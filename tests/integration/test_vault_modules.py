"""The Vault modules and the role against a real OpenBao server, through ansible-playbook, on this machine.

The playbooks run with -vvv and everything they print is kept: the last test looks for every secret in all of it.
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

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SEED = "canary-provider-key-7d1f"
PASSWORD = b"a throwaway password"

# Shows at -vvv what a module answers, as the ssh connection does and the local one does not.
LOUD_CONNECTION = """
from ansible.plugins.connection.local import Connection as Local, DOCUMENTATION
from ansible.utils.display import Display


class Connection(Local):
    def exec_command(self, *args, **kwargs):
        answer = super().exec_command(*args, **kwargs)
        Display().vvv(str(answer))
        return answer
"""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bao:
    """An OpenBao server with raft storage below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "raft"
        self.config = folder / "bao.hcl"
        self.log = folder / "bao.log"
        port, cluster_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True)
        self.config.write_text(
            f'storage "raft" {{\n  path = "{self.data}"\n  node_id = "test"\n  performance_multiplier = 1\n}}\n'
            f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n'
            f'  cluster_address = "127.0.0.1:{cluster_port}"\n  tls_disable = true\n}}\n'
            f'api_addr = "{self.url}"\ncluster_addr = "http://127.0.0.1:{cluster_port}"\n'
        )
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self.data.mkdir(exist_ok=True)
        program = BIN / "bao" if (BIN / "bao").exists() else "bao"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program, "server", f"-config={self.config}"], stdout=log, stderr=log)
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
            "vault_keys_file": str(self.keys_file),
            "vault_compose_project_src": str(self.host),
            "vault_secret_shares": 3,
            "vault_secret_threshold": 2,
            "vault_token_uid": os.getuid(),
            "vault_token_gid": os.getgid(),
            "vault_token_period": "24h",
            "vault_seeds": {"providers/sample": {"api_key": SEED}},
            **self.variables,
        }

    def play(self, tasks: list | None = None, *arguments: str, **variables: object) -> Run:
        """Run the role, or `tasks`, on localhost and keep all that is printed."""
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
        done = subprocess.run(
            [*command, playbook],
            env={**os.environ, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        variable_file.unlink()
        playbook.unlink()
        self.outputs.append(done.stdout + done.stderr)
        self.learn_secrets()
        return Run(done.returncode, done.stdout + done.stderr)

    def keys(self) -> dict:
        """What the keys file holds."""
        content = VaultLib([("default", VaultSecret(PASSWORD))]).decrypt(self.keys_file.read_bytes())
        return yaml.safe_load(content)

    def root(self) -> hvac.Client:
        """A client with the root token."""
        return self.bao.client(self.keys()["root_token"])

    def token(self) -> str:
        """The services' token."""
        return self.token_file.read_text()

    def learn_secrets(self) -> None:
        """Remember every secret there is now, in each form that it could be printed in."""
        if self.token_file.exists():
            self.secrets.add(self.token())
        if self.keys_file.exists():
            keys = self.keys()
            shares = keys["unseal_shares"]
            self.secrets |= {keys["root_token"], *shares, *(base64.b64decode(share).hex() for share in shares)}


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
    return site


# ---------------------------------------------------------------- the ladder


def test_after_check_and_run_both_change_nothing(provisioned):
    site = provisioned
    assert not site.marker.exists()
    assert stat.S_IMODE(site.keys_file.stat().st_mode) == 0o600
    assert [path.name for path in site.keys_file.parent.iterdir()] == ["keys.yml"]
    assert len(site.keys()["unseal_shares"]) == 3
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o400
    keys, token = site.keys_file.read_bytes(), site.token()

    for arguments in (["--check"], []):
        again = site.play(None, *arguments)
        assert (again.code, again.changed) == (0, 0), again.output
        assert again.calls == ["vault_config"], "a run with nothing to do has to be one call to the host"
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
            f"token in {site.token_file}: issued, because it has another period",
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
    assert "issued, because it is not valid" in run.output
    assert site.root().auth.token.lookup(site.token())["data"]["orphan"]
    assert site.keys_file.read_bytes() == keys


# ---------------------------------------------------------------- killed runs


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

    def unseal(given: list[str], url: str = site.bao.url) -> dict:
        return {"openmates.server.vault_unseal": {"url": url, "shares": given, "deadline": 1}}

    def init(keys_file: Path, marker: Path, url: str = site.bao.url) -> dict:
        arguments = {"url": url, "keys_file": str(keys_file), "marker": str(marker), "deadline": 1}
        return {"openmates.server.vault_init": arguments}

    def config(token: str, **arguments: object) -> dict:
        return {"openmates.server.vault_config": {"url": site.bao.url, "token": token, "deadline": 5, **arguments}}

    root = site.keys()["root_token"]
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
        (config("s.notatoken"), "does not accept the token"),
        (config(root, engines=[{"path": "transit", "type": "kv"}]), "already holds another engine"),
        (config(root, tokens=[{"file": "/x/y", "policies": ["a"], "period": "soon"}]), "is not a duration"),
        (config(root, seeds={"providers/x": "no mapping"}), "has to be a mapping"),
    ]
    seen["secrets"].add("s.notatoken")
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
