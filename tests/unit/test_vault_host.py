"""The program with which a server maintains its Vault: its actions in each state, without a Vault or a Docker."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.module_utils.vault import api
from ansible_collections.openmates.server.plugins.module_utils.vault import host_program as program
from ansible_collections.openmates.server.plugins.modules import vault_host

SHARES = ["one", "two", "three"]


class FakeVault(api.Api):
    """Answers by a table, and records the requests. A sealed one is unsealed with the right shares."""

    def __init__(self, state: str, answers: dict | None = None, opens_with: list | None = None) -> None:
        super().__init__("http://nowhere.invalid")
        self.now, self.answers, self.opens_with = state, answers or {}, opens_with
        self.asked, self.shares = [], []

    def state(self) -> str:
        return self.now

    def call(self, method: str, path: str, body: dict | None = None, token: str = "") -> tuple[int, dict]:
        self.asked.append((path, token))
        if path == "sys/seal-status":
            return 200, {"sealed": self.now == api.SEALED}
        if path != "sys/unseal":
            return self.answers[path]
        if body.get("reset"):
            self.shares = []
            return 200, {"sealed": True}
        self.shares.append(body["key"])
        if len(self.shares) < len(SHARES):
            return 200, {"sealed": True, "nonce": "of this attempt"}
        right, self.shares = self.shares == self.opens_with, []
        self.now = api.ACTIVE if right else self.now
        return (200, {"sealed": False}) if right else (400, {})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs one command against a Vault and containers, and returns its exit code and output."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "openmates-vault-shares").write_text(json.dumps({"shares": SHARES}))
    (tmp_path / "openmates-vault-api").write_text(json.dumps({"role_id": "r", "secret_id": "s"}))
    monkeypatch.setattr(program.time, "sleep", lambda _: None)

    def start(vault: FakeVault, *arguments: str, containers: dict | None = None) -> tuple[int, str, list]:
        restarted = []
        docker = SimpleNamespace(
            containers=lambda service: (containers or {}).get(service, []),
            restart=lambda service, container, seconds: restarted.append((service, container["Id"])),
        )
        monkeypatch.setattr(program, "Docker", lambda project: docker)
        monkeypatch.setattr(program, "answering", lambda *_: (vault, vault.now))
        monkeypatch.setattr(program.sys, "argv", ["vault_host_program.py", *arguments])
        code = program.main()
        said = capsys.readouterr()
        return code, said.out + said.err, restarted

    return start


def token_arguments(file: Path, *more: str) -> list[str]:
    arguments = ["token", "--file", str(file), "--uid", str(os.getuid()), "--gid", str(os.getgid())]
    return [*arguments, "--period", "60", "--policies", "a,b", *more]


def lookup(**changes: object) -> tuple[int, dict]:
    data = {"policies": ["b", "a"], "period": 60, "ttl": 50, "orphan": True, "meta": {"role_name": "openmates-api"}}
    return 200, {"data": {**data, **changes}}


def test_a_sealed_vault_is_opened_once_and_an_open_or_empty_one_left_alone(run):
    vault = FakeVault(api.SEALED, opens_with=SHARES)
    assert run(vault, "unseal")[:2] == (0, "Vault was sealed, and is open again\n")
    for state in (api.ACTIVE, api.UNINITIALIZED, api.STANDBY):
        vault = FakeVault(state)
        assert run(vault, "unseal")[:2] == (0, "")
        assert vault.asked == []


def test_shares_of_another_vault_are_said_to_be_and_never_shown(run, tmp_path):
    vault = FakeVault(api.SEALED, opens_with=["other"] * 3)
    code, said, _ = run(vault, "unseal")
    assert code == 1 and "do not open this Vault" in said and said.startswith("<3>")
    assert not any(re.search(rf"\b{share}\b", said) for share in ("two", "three"))
    assert vault.shares == [], "no half-done attempt stays"
    (tmp_path / "openmates-vault-shares").write_text("{ half")
    code, said, _ = run(FakeVault(api.SEALED), "unseal")
    assert code == 1 and "missing or damaged" in said and "site.yml" in said


@pytest.mark.parametrize("number", [0, 1])
def test_a_vault_initialised_a_moment_ago_is_opened_although_it_stays_sealed_for_seconds(run, number):
    """Twelve attempts without success: shares that it takes and stays sealed, or answers with an error."""
    vault = FakeVault(api.SEALED, opens_with=SHARES)
    call, early = vault.call, iter(range(12))

    def call_early(method, path, body=None, token=""):
        if path == "sys/unseal" and body.get("key") == SHARES[-1] and next(early, None) is not None:
            return [(200, {"sealed": True, "nonce": "of this attempt"}), (500, {})][number]
        return call(method, path, body, token)

    vault.call = call_early
    code, said, _ = run(vault, "unseal")
    assert (code, vault.now) == (0, api.ACTIVE), said


def test_an_unexpected_answer_to_a_share_is_reported(run):
    vault = FakeVault(api.SEALED)
    vault.call = lambda method, path, body=None, token="": (502, {})
    code, said, _ = run(vault, "unseal")
    assert (code, said) == (1, "<3>Vault at http://nowhere.invalid answers an unseal share with status 502.\n")


def test_without_shares_on_the_server_an_operator_must_unseal(run, tmp_path):
    sealed = FakeVault(api.SEALED)
    assert run(sealed, *token_arguments(tmp_path / "token"))[:2] == (0, "")
    code, said, _ = run(sealed, *token_arguments(tmp_path / "token", "--unseal", "operator"))
    assert code == 1 and "unseal.yml" in said


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, {}), "is not valid"),
        (lookup(policies=["a"]), "has other policies"),
        (lookup(period=120), "has another period"),
        (lookup(orphan=False), "is not an orphan"),
        (lookup(meta=None), "was not made by this server"),
        (None, "is missing"),
    ],
)
def test_a_token_that_is_not_as_declared_is_replaced_as_a_whole(run, tmp_path, answer, reason):
    file = tmp_path / "vault-data" / "api.token"
    if answer:
        file.parent.mkdir()
        file.write_text("old")
    answers = {"auth/token/lookup-self": answer, "auth/approle/login": (200, {"auth": {"client_token": "new"}})}
    code, said, _ = run(FakeVault(api.ACTIVE, answers), *token_arguments(file))
    assert code == 0 and reason in said and "new" not in said.replace("a new token", "")
    assert file.read_text() == "new" and stat.S_IMODE(file.stat().st_mode) == 0o400
    assert [entry.name for entry in file.parent.iterdir()] == ["api.token"]


@pytest.mark.parametrize(("ttl", "renewed"), [(59, False), (31, False), (29, True), (1, True)])
def test_a_token_is_renewed_when_half_of_its_time_is_over(run, tmp_path, ttl, renewed):
    file = tmp_path / "api.token"
    file.write_text("old")
    answers = {"auth/token/lookup-self": lookup(ttl=ttl), "auth/token/renew-self": (200, {})}
    vault = FakeVault(api.ACTIVE, answers)
    assert run(vault, *token_arguments(file))[:2] == (0, "")
    assert (("auth/token/renew-self", "old") in vault.asked) is renewed
    assert file.read_text() == "old"


def test_a_refused_login_is_reported_and_the_old_token_stays(run, tmp_path):
    file = tmp_path / "api.token"
    file.write_text("old")
    answers = {"auth/token/lookup-self": (403, {}), "auth/approle/login": (400, {})}
    code, said, _ = run(FakeVault(api.ACTIVE, answers), *token_arguments(file))
    assert code == 1 and "site.yml" in said and file.read_text() == "old"


def test_only_what_started_before_the_token_was_made_is_restarted_and_in_order(run, tmp_path):
    file = tmp_path / "api.token"
    file.write_text("old")
    os.utime(file, (1_000_000_000, 1_000_000_000))  # 2001-09-09T01:46:40Z

    def container(name: str, second: int) -> dict:
        return {"Id": name, "State": {"StartedAt": f"2001-09-09T01:46:{second}.5Z"}}

    containers = {
        "worker": [container("w", 39)],
        "api": [container("a1", 41), container("a2", 20)],
        "other": [container("o", 10)],
    }
    vault = FakeVault(api.ACTIVE, {"auth/token/lookup-self": lookup()})
    arguments = token_arguments(file, "--consumers", "api,worker")
    code, said, restarted = run(vault, *arguments, containers=containers)
    assert (code, restarted) == (0, [("api", "a2"), ("worker", "w")])
    assert "api is restarted" in said


def test_the_program_and_what_it_shares_with_the_modules_work_side_by_side_on_a_host(tmp_path):
    """Isolated from the environment and without Ansible, as systemd runs it."""
    files = vault_host.program_files(str(tmp_path / "vault-host.py"))
    assert [Path(name).name for name in files] == ["atomic.py", "docker_api.py", "vault_api.py", "vault-host.py"]
    for name, text in files.items():
        Path(name).write_text(text)
    unseal = [sys.executable, "-ISu", str(tmp_path / "vault-host.py"), "unseal", "--patience", "0"]
    done = subprocess.run([*unseal, "--address", "127.0.0.1:9"], capture_output=True, text=True, cwd="/", check=False)
    told = "<3>Nothing answers at http://127.0.0.1:9: Connection refused. Waited 0 s. See: sudo docker compose ps\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
    (tmp_path / "vault_api.py").unlink()
    assert "ModuleNotFoundError" in subprocess.run(unseal, capture_output=True, text=True, check=False).stderr
