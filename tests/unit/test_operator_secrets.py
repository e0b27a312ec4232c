"""The secrets playbook: any source of the ansible-vault password, one file per environment, no value in an output."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.openmates.server.plugins.action.operator_secrets import ActionModule
from ansible_collections.openmates.server.plugins.plugin_utils import operator_secrets
from installed import ROOT, Operator

SPECIFICATIONS = yaml.safe_load((ROOT / "roles/settings/meta/argument_specs.yml").read_text())
PLAYBOOK = ROOT / "playbooks/secrets.yml"
PROMPT = "a password that is typed"


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator whose inventory has servers of both environments."""
    operator = Operator(tmp_path)
    hosts = {"prod": {"hosts": {"one": None, "two": None}}, "dev": {"hosts": {"three": None}}}
    write(operator, "hosts.yml", hosts)
    (operator.directory / "password").write_text("a throwaway password")
    client = operator.directory / "keyring-client"
    client.write_text('#!/bin/sh\n[ "$1 $2" = "--vault-id site" ] && echo from-the-keyring\n')
    client.chmod(0o755)
    return operator


def write(operator: Operator, name: str, content: object) -> Path:
    file = operator.directory / "inventory" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def command(*arguments: str) -> list[str | Path]:
    return ["ansible-playbook", PLAYBOOK, "-i", "inventory", *arguments]


ENVIRONMENT = {
    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
    "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
}
SOURCES = {
    "--vault-password-file": (["--vault-password-file", "password"], {}, ""),
    "--vault-id with a file": (["--vault-id", "site@password"], {}, ""),
    "--vault-id with a client script": (["--vault-id", "site@keyring-client"], {}, ""),
    "--ask-vault-pass": (["--ask-vault-pass"], {}, f"{PROMPT}\n"),
    "environment": ([], {"ANSIBLE_VAULT_PASSWORD_FILE": "password"}, ""),
}
FILES = {environment: f"inventory/group_vars/{environment}/secrets.yml" for environment in ("prod", "dev")}


@pytest.mark.parametrize("source", SOURCES)
def test_each_environment_gets_a_file_whatever_the_password_comes_from(operator: Operator, source: str) -> None:
    arguments, environment, stdin = SOURCES[source]
    environment = ENVIRONMENT | environment
    output = operator.succeed(*command("-vvv", *arguments), stdin=stdin, **environment)
    found = {}
    for name, file in FILES.items():
        path = operator.directory / file
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().startswith("$ANSIBLE_VAULT;")
        found[name] = yaml.safe_load(operator.decrypted(file, *arguments, stdin=stdin, **environment))
        assert set(found[name]) == set(operator_secrets.SECRETS)
    values = [value for secrets in found.values() for value in secrets.values()]
    assert len(set(values)) == len(values)
    assert not [value for value in values if value in output]
    before = {file: (operator.directory / file).read_bytes() for file in FILES.values()}
    again = operator.succeed(*command(*arguments), stdin=stdin, **environment)
    assert "changed=0" in again and "changed=1" not in again
    assert before == {file: (operator.directory / file).read_bytes() for file in FILES.values()}


def test_without_a_password_it_says_what_to_pass_and_writes_nothing(operator: Operator) -> None:
    output = operator.refused(*command(), **ENVIRONMENT)
    for words in ("no ansible-vault password", "--vault-password-file FILE", "--ask-vault-pass", "Nothing was written"):
        assert words in output
    assert not (operator.directory / "inventory/group_vars").exists()


def test_what_is_there_stays_and_what_is_missing_is_added(operator: Operator) -> None:
    file = write(operator, "group_vars/prod/secrets.yml", "# mine\nopenmates_admin_password: of-my-own-making\n")
    write(operator, "group_vars/all.yml", {"openmates_cache_password": "set-elsewhere-in-the-inventory"})
    password = ["--vault-id", "prod@password"]
    operator.succeed("ansible-vault", "encrypt", file, *password)
    # Another password is first, but the file stays with its own.
    operator.succeed(*command("--vault-id", "site@keyring-client", *password), **ENVIRONMENT)
    text = operator.decrypted(file, *password)
    assert text.startswith("# mine\nopenmates_admin_password: of-my-own-making\n")
    assert set(yaml.safe_load(text)) == set(operator_secrets.SECRETS) - {"openmates_cache_password"}


def test_a_dry_run_reports_and_writes_nothing(operator: Operator) -> None:
    output = operator.succeed(*command("--check", "--vault-password-file", "password"), **ENVIRONMENT)
    assert re.search(r"one +: .*changed=1 ", output)
    assert not (operator.directory / "inventory/group_vars").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [("- a list of canaries\n", "is not a YAML mapping"), ("a: {canary\n", "is not a YAML mapping")],
    ids=["list", "not YAML"],
)
def test_a_file_that_is_no_secrets_file_is_refused_without_its_content(
    operator: Operator, content: str, words: str
) -> None:
    file = operator.directory / "elsewhere.yml"
    file.write_text(content)
    arguments = ["--vault-password-file", "password", "-e", f"openmates_secrets_file={file}"]
    output = operator.refused(*command(*arguments), **ENVIRONMENT)
    assert words in output and "canar" not in output
    assert file.read_text() == content


def test_a_file_of_another_password_is_refused(operator: Operator) -> None:
    file = operator.directory / "elsewhere.yml"
    file.write_text("a: b\n")
    operator.succeed("ansible-vault", "encrypt", file, "--vault-id", "site@keyring-client")
    before = file.read_bytes()
    arguments = ["--vault-password-file", "password", "-e", f"openmates_secrets_file={file}"]
    assert "cannot be decrypted with this run's ansible-vault password" in (
        operator.refused(*command(*arguments), **ENVIRONMENT)
    )
    assert file.read_bytes() == before


def test_the_specification_and_the_list_name_the_same_secrets() -> None:
    """A secret text without a default is one that an inventory has to set."""
    defaults = "\n".join(path.read_text() for path in (ROOT / "roles/settings/defaults").rglob("*.yml"))
    options = SPECIFICATIONS["argument_specs"]["main"]["options"]
    required = {
        name
        for name, option in options.items()
        if option.get("no_log") and option["type"] == "str" and not re.search(rf"^{name}:", defaults, re.MULTILINE)
    }
    assert required == set(operator_secrets.SECRETS)


@pytest.mark.parametrize("name", operator_secrets.SECRETS)
def test_what_is_made_is_long_enough(name: str) -> None:
    secret = operator_secrets.SECRETS[name]
    assert len(secret.make()) >= secret.shortest
    assert secret.make() != secret.make()


def test_the_invite_code_has_the_form_of_the_web_app() -> None:
    assert re.fullmatch(r"[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}", operator_secrets.invite_code())


def test_a_password_file_that_ansible_would_run_is_not_left_behind(tmp_path: Path) -> None:
    """As on exFAT, where every file is executable."""
    loader = SimpleNamespace(is_executable=lambda path: path.exists())
    action = SimpleNamespace(_loader=loader, _task=SimpleNamespace(check_mode=False))
    with pytest.raises(AnsibleActionFail, match="would be executable"):
        ActionModule._password(action, tmp_path / ".vault-password")
    assert list(tmp_path.iterdir()) == []
