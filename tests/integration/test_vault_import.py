"""What the installer's Vault holds gets into a Vault of this project: keys with all their versions, secrets, no tokens.

With VAULT_BINARY the old Vault is HashiCorp Vault on file storage, as the installer's is. OpenBao has no file storage,
so that without it the old one has raft storage: the rest is the same.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest
from ports import free_port
from vault_site import ENGINE, SERVER, Site

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "roles/import/files"), str(ROOT / "roles/backup/files")]

from openmates_backup.problem import Problem  # noqa: E402
from openmates_import import vault_copy, vault_export  # noqa: E402

USERS = [f"user_{number}" for number in range(3)]
TEXT = base64.b64encode(b"a user's text").decode()
SECRET = "canary-provider-key-of-the-old-vault"
#: OpenBao's stand-in for file storage.
RAFT = (
    vault_copy.CONFIGURATION.replace('"file" {{', '"raft" {{ node_id = "old"')
    .replace('"unix" {{', '"unix" {{ disable_unauthed_generate_root_endpoints = false')
    .replace("disable_clustering = true", "")
    .replace("disable_mlock = true", 'cluster_addr = "http://127.0.0.1:1"')
    + f'listener "tcp" {{{{\n  address = "127.0.0.1:{free_port()}"\n  tls_disable = true\n'
    f'  cluster_address = "127.0.0.1:{free_port()}"\n}}}}\n'
)
CONFIGURATION = RAFT if ENGINE == "openbao" else vault_copy.CONFIGURATION


class Old:
    """A Vault as the installer's set-up makes it."""

    def __init__(self, folder: Path) -> None:
        self.storage, self.folder, self.port = folder / "storage", folder, free_port()
        self.storage.mkdir(parents=True)
        config = CONFIGURATION.format(storage=self.storage, socket=folder / "old.sock")
        listener = f'listener "tcp" {{\n  address = "127.0.0.1:{self.port}"\n  tls_disable = true\n'
        listener += f'  cluster_address = "127.0.0.1:{free_port()}"\n}}\n'
        (folder / "old.hcl").write_text(config + listener)
        self.client = hvac.Client(f"http://127.0.0.1:{self.port}", token="")
        self.start()
        made = self.client.sys.initialize(1, 1)
        self.unseal_key, self.client.token = made["keys"][0], made["root_token"]
        self.client.sys.submit_unseal_key(self.unseal_key)
        self._wait(lambda: self.client.sys.enable_secrets_engine("transit"))
        self.client.sys.enable_secrets_engine("kv", path="kv", options={"version": "2"})
        self._fill()

    def start(self) -> None:
        self.log = (self.folder / "old.log").open("ab")
        command = [SERVER, "server", f"-config={self.folder / 'old.hcl'}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self._wait(lambda: self.client.sys.read_seal_status())

    def open_again(self) -> None:
        """Where it had to be stopped for the export."""
        self.start()
        self.client.sys.submit_unseal_key(self.unseal_key)
        self._wait(lambda: self.client.auth.token.lookup_self())

    @staticmethod
    def _wait(call: object) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                call()
                return
            except Exception:
                assert time.monotonic() < end
                time.sleep(0.1)

    def _fill(self) -> None:
        transit, kv = self.client.secrets.transit, self.client.secrets.kv.v2
        self._wait(lambda: kv.create_or_update_secret("providers/stripe", {"api_key": "older"}, mount_point="kv"))
        kv.create_or_update_secret("providers/stripe", {"api_key": SECRET, "mode": "live"}, mount_point="kv")
        kv.create_or_update_secret("providers/openai/azure", {"api_key": SECRET}, mount_point="kv")
        kv.create_or_update_secret("providers/gone", {"api_key": "x"}, mount_point="kv")
        kv.delete_latest_version_of_secret("providers/gone", mount_point="kv")
        kv.create_or_update_secret("system_flags/migration_status", {"done": True}, mount_point="kv")
        for user in USERS:
            transit.create_key(user, derived=True)
        for name in ("email-hmac-key", "shared-content-metadata"):
            transit.create_key(name)
        transit.create_key("conv", derived=True, convergent_encryption=True)
        transit.create_key("signs", key_type="ed25519")
        self.samples = [vault_export.Sample(user, self.encrypted(user)) for user in USERS]
        self.first = self.encrypted("user_0")
        transit.rotate_key("user_0")
        transit.rotate_key("user_0")
        self.email = transit.generate_hmac("email-hmac-key", TEXT)["data"]["hmac"]
        self.convergent = self.encrypted("conv")

    def encrypted(self, key: str) -> str:
        asked = {"plaintext": TEXT, "context": vault_export.context_of(key)}
        return self.client.adapter.post(f"/v1/transit/encrypt/{key}", json=asked)["data"]["ciphertext"]

    def marks(self, key: str) -> tuple[bool, bool]:
        about = self.client.secrets.transit.read_key(key)["data"]
        return about["exportable"], about["allow_plaintext_backup"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    found = Old(tmp_path_factory.mktemp("old"))
    yield found
    if found.process.poll() is None:
        found.stop()


def command(configuration: Path, _: object) -> list[str]:
    return [SERVER, "server", f"-config={configuration}"]


@pytest.fixture(scope="module")
def exported(old: Old, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("x")
    if ENGINE == "openbao":
        old.stop()  # its storage is one file, which is not replaced as a whole
    marker = pytest.MonkeyPatch()
    marker.setattr(vault_copy, "CONFIGURATION", CONFIGURATION)
    samples = [*old.samples, vault_export.Sample("user_9", old.samples[0].ciphertext)]
    with vault_copy.opened(old.storage, old.unseal_key, folder / "staging", folder / "secret", command) as copy:
        about = vault_export.export(copy, folder / "vault.jsonl", samples, [*USERS, "user_9"])
    marker.undo()
    assert not list((folder / "staging").iterdir()) and not list((folder / "secret").iterdir()), "nothing is left"
    return folder / "vault.jsonl", about


def test_the_export_has_everything_and_says_what_the_old_vault_itself_cannot_open(exported, old):
    path, about = exported
    assert path.stat().st_mode & 0o777 == 0o600
    assert (about["keys"], about["secrets"], about["samples"]) == (len(USERS) + 4, 2, 3)
    assert (about["unreadable"], about["without_key"], about["other_engines"]) == (1, 1, [])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["secret"]["path"] for line in lines if "secret" in line] == [
        "providers/openai/azure",
        "providers/stripe",
    ]
    versions = next(line["key"]["proofs"] for line in lines if line.get("key", {}).get("name") == "user_0")
    assert [proof.get("ciphertext", "hmac").split(":")[1:2] for proof in versions] == [[], ["v1"], ["v2"], ["v3"]]


def test_the_old_vault_is_as_it_was(exported, old):
    assert (old.process.poll() is None) == (ENGINE != "openbao"), "file storage is copied while Vault runs"
    if ENGINE == "openbao":
        old.open_again()
    assert old.marks("user_0") == (False, False), "no mark was set for good"
    assert old.client.auth.token.lookup_self()["data"]["policies"] == ["root"]
    if ENGINE == "openbao":
        old.stop()


def test_a_wrong_unseal_key_is_named_and_leaves_nothing(exported, old, tmp_path, monkeypatch):
    monkeypatch.setattr(vault_copy, "CONFIGURATION", CONFIGURATION)
    wrong = base64.b64encode(os.urandom(32)).decode()
    with (
        pytest.raises(Problem, match=r"unseal\.key does not open it"),
        vault_copy.opened(old.storage, wrong, tmp_path / "s", tmp_path / "m", command),
    ):
        pytest.fail("it opened")
    assert not list((tmp_path / "s").iterdir()) and not list((tmp_path / "m").iterdir())


def imported(site: Site, path: Path):
    site.secrets.add(SECRET)
    return site.role("import", vault_import_from=str(path), vault_state_directory=str(site.state))


def test_a_dry_run_changes_nothing(provisioned, exported):
    run = provisioned.role("import", "--check", vault_import_from=str(exported[0]))
    assert (run.code, run.changed) == (0, 1), run.output
    with pytest.raises(hvac.exceptions.InvalidPath):
        provisioned.root().secrets.transit.list_keys()


def test_the_new_vault_opens_what_the_old_one_encrypted(provisioned, exported, old):
    site = provisioned
    root = site.root()
    # What the new server's own api has made at its first start, and what its inventory has.
    root.secrets.transit.create_key("email-hmac-key")
    root.secrets.kv.v2.create_or_update_secret("providers/stripe", {"webhook": "of the inventory"}, mount_point="kv")
    before = {token["accessor"] for token in tokens_of(root)}
    run = imported(site, exported[0])
    assert run.code == 0, run.output

    def opened(key: str, ciphertext: str) -> str:
        asked = {"ciphertext": ciphertext, "context": vault_export.context_of(key)}
        return root.adapter.post(f"/v1/transit/decrypt/{key}", json=asked)["data"]["plaintext"]

    assert [opened(*sample) for sample in old.samples] == [TEXT] * len(USERS)
    assert opened("user_0", old.first) == TEXT, "with an older version of the key"
    assert opened("conv", old.convergent) == TEXT
    assert root.secrets.transit.generate_hmac("email-hmac-key", TEXT)["data"]["hmac"] == old.email
    about = root.secrets.transit.read_key("user_0")["data"]
    assert (about["exportable"], about["allow_plaintext_backup"], about["latest_version"]) == (False, False, 3)
    read = root.secrets.kv.v2.read_secret_version
    held = {"api_key": SECRET, "mode": "live", "webhook": "of the inventory"}
    assert read("providers/stripe", mount_point="kv", raise_on_deleted_version=True)["data"]["data"] == held
    assert {token["accessor"] for token in tokens_of(root)} == before, (
        "its root token is revoked, and no other one came"
    )
    again = imported(site, exported[0])
    assert again.code == 0, again.output
    assert read("providers/stripe", mount_point="kv", raise_on_deleted_version=True)["data"]["metadata"]["version"] == 2
    reconciled = site.play()
    assert reconciled.code == 0, reconciled.output
    assert not (site.state / "vault-root").exists()


def tokens_of(root: hvac.Client) -> list[dict]:
    from ansible_collections.openmates.server.plugins.module_utils.vault import tokens

    return list(tokens.tokens(root))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda line: line["key"]["proofs"][0].update(hmac="vault:v1:AAAA"), "is not what it is in the old Vault"),
        (lambda line: line["key"].update(backup="AAAA"), "refuses to restore with the key"),
    ],
)
def test_a_key_that_is_not_the_same_fails(provisioned, exported, tmp_path, broken, words):
    lines = [json.loads(line) for line in exported[0].read_text().splitlines()]
    broken(next(line for line in lines if "key" in line))
    (tmp_path / "broken.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = imported(provisioned, tmp_path / "broken.jsonl")
    assert run.code == 2 and words in run.output, run.output
    root = provisioned.root()
    own = root.auth.token.lookup_self()["data"]["accessor"]
    left = [token for token in tokens_of(root) if "root" in token["policies"] and token["accessor"] != own]
    assert len(left) <= 1, "the token of the failed call is revoked; the other one is of an earlier test"


def test_a_damaged_sample_fails(provisioned, exported, tmp_path):
    lines = [json.loads(line) for line in exported[0].read_text().splitlines()]
    next(line for line in lines if "sample" in line)["sample"]["sha256"] = "0" * 64
    (tmp_path / "broken.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = imported(provisioned, tmp_path / "broken.jsonl")
    assert run.code == 2 and "is not what it is in the old Vault" in run.output


def test_no_secret_is_printed_or_left(provisioned, exported, search_for_secrets, seen):
    lines = [json.loads(line) for line in exported[0].read_text().splitlines()]
    seen["secrets"] |= {line["key"]["backup"] for line in lines if "key" in line}
    seen["secrets"].add(TEXT)
    search_for_secrets()
