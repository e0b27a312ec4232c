"""Every playbook checks its arguments before it connects, and its message names the problems."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.plugin_utils import verb_arguments

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ROOT / "playbooks"
#: The playbooks that an operator runs.
VERBS = sorted(path.name for path in PLAYBOOKS.glob("*.yml"))
CHECK = "openmates.server.check_arguments"


def plays_of(verb: str) -> list[dict]:
    """The plays of a playbook, without playbooks that it imports, which are verbs of their own."""
    plays = yaml.safe_load((PLAYBOOKS / verb).read_text())
    return [play for play in plays if "ansible.builtin.import_playbook" not in play]


def declared(verb: str) -> dict[str, dict]:
    """The arguments that a playbook declares in its first task."""
    play = plays_of(verb)[0]  # later ones go on, after a playbook that is imported
    return play["tasks"][0][CHECK]["arguments"]


# --- the rules ----------------------------------------------------------------------------------------------------

ARGUMENTS = {
    "vault_snapshot_file": {"description": "the snapshot", "type": "file", "required": True, "choices": []},
    "vault_restore_replace": {"description": "whether", "type": "bool", "required": False, "choices": []},
    "vault_rotate_fields": {"description": "new values", "type": "dict", "required": False, "choices": []},
    "schema_do": {"description": "what", "type": "str", "required": False, "choices": ["diff", "apply"]},
    "verify_ready_timeout": {"description": "seconds", "type": "int", "required": False, "choices": []},
}


def problems(values: dict | None = None, given: tuple = (), known: tuple = ()) -> list[str]:
    here = {"vault_snapshot_file": __file__}
    return list(verb_arguments.problems(ARGUMENTS, here | (values or {}), given, known))


def test_good_arguments_are_no_problem() -> None:
    values = {"vault_restore_replace": "true", "schema_do": "apply", "verify_ready_timeout": "20"}
    assert problems(values, given=tuple(values)) == []


@pytest.mark.parametrize("value", [None, "", []])
def test_a_required_argument_without_a_value_is_named(value: object) -> None:
    assert problems({"vault_snapshot_file": value}) == ["vault_snapshot_file is missing: the snapshot."]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vault_restore_replace", "ture", "must be true or false, not `ture`"),
        ("verify_ready_timeout", "soon", "must be a whole number, not `soon`"),
        ("schema_do", "snap", "must be one of diff, apply, not `snap`"),
        ("vault_snapshot_file", "/nowhere/a.snap", "does not exist on this machine: /nowhere/a.snap"),
        ("vault_rotate_fields", "a canary", "must be a mapping"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: object, words: str) -> None:
    (problem,) = problems({name: value})
    assert problem.startswith(f"{name} ") and words in problem


def test_a_value_that_can_be_secret_is_not_shown() -> None:
    assert "canary" not in problems({"vault_rotate_fields": "a canary"})[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vault_snapshot_fil", "vault_snapshot_file"),
        ("snapshot", "vault_snapshot_file"),
        ("openmates_vault_snapshot_file", "vault_snapshot_file"),
        ("vault_replace", "vault_restore_replace"),
        ("verify_timeout", "verify_ready_timeout"),
        ("do", "schema_do"),
    ],
)
def test_an_unknown_name_that_resembles_an_argument_is_refused(name: str, meant: str) -> None:
    assert problems(given=(name,)) == [f"{name} is not an argument of this playbook. Did you mean {meant}?"]
    assert problems(given=(name,), known=(name,)) == [], "something else reads it"


@pytest.mark.parametrize(
    "name", ["my_network", "openmates_domain", "vault_token_period", "ansible_snapshot_file", "lab_state"]
)
def test_other_names_are_accepted(name: str) -> None:
    assert problems(given=(name,)) == []


def test_variable_names_are_those_at_the_top_level(tmp_path: Path) -> None:
    file = tmp_path / "main.yml"
    file.write_text("---\n# comment: no\nfirst: 1\nsecond:\n  inner: 2\n")
    assert verb_arguments.names_in([file]) == {"first", "second"}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, []),
        ({"tags": ["stack", "all", "always", "never", "tagged", "untagged"]}, []),
        ({"skip_tags": ["notest", "molecule-notest", "molecule-idempotence-notest", "ssh"]}, []),
        ({"tags": ["stack", "stacks"]}, ["--tags stacks: no task has this tag. Did you mean stack?"]),
        ({"tags": ["backup"]}, ["--tags backup: no task has this tag. The tags are ssh, stack."]),
        ({"skip_tags": ["shh"]}, ["--skip-tags shh: no task has this tag. Did you mean ssh?"]),
    ],
)
def test_a_tag_that_no_task_has_is_named(options: dict, found: list[str]) -> None:
    assert verb_arguments.tag_problems(options, {"always", "ssh", "stack"}) == found


def test_a_playbook_without_tags_takes_none() -> None:
    [problem] = verb_arguments.tag_problems({"tags": ["stack"]}, {"always"})
    assert problem == "--tags stack: no task has this tag. This playbook has none: run it without the option."


# --- the playbooks ------------------------------------------------------------------------------------------------


class Operator:
    """Runs playbooks against a server on a documentation address, and detects attempts to connect."""

    def __init__(self, folder: Path) -> None:
        self.connected = folder / "connected"
        password = folder / "password"
        password.write_text("a throwaway password")
        inventory = {
            "ansible_host": "192.0.2.7",
            "ansible_ssh_common_args": f"-o ProxyCommand='touch {self.connected}; false'",
            "openmates_secrets_file": str(folder / "secrets.yml"),
        }
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(yaml.safe_dump({"prod": {"hosts": {"server": inventory}}}))
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        }

    def run(self, verb: str, *arguments: str) -> str:
        command = [Path(sys.executable).parent / "ansible-playbook", PLAYBOOKS / verb, "-i", self.inventory]
        done = subprocess.run(
            [*command, *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    def refused(self, verb: str, *arguments: str) -> str:
        """The output of a run, which has to end in its first task and without a connection."""
        output = self.run(verb, *arguments)
        assert re.search(r"ok=0 +changed=0 +unreachable=0 +failed=1", output), output
        assert not self.connected.exists(), output
        assert " was not started, because of its arguments:" in output
        return output


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if declared(verb)])
def test_a_misspelt_or_missing_argument_ends_a_playbook_before_it_connects(operator: Operator, verb: str) -> None:
    arguments = declared(verb)
    name = next(iter(arguments))
    output = operator.refused(verb, "-e", f"{name[:-1]}=x")
    assert f"{name[:-1]} is not an argument of this playbook. Did you mean {name}?" in output
    for required in (name for name, argument in arguments.items() if argument.get("required")):
        assert f"{required} is missing: {arguments[required]['description']}." in output
        assert re.search(rf"Example: ansible-playbook \S*{verb} -i {operator.inventory} .*-e {required}=", output)


def test_with_valid_arguments_a_playbook_continues(operator: Operator, tmp_path: Path) -> None:
    snapshot = tmp_path / "a.snap"
    snapshot.touch()
    given = {"vault_restore.yml": f"vault_snapshot_file={snapshot}", "rotate.yml": "vault_rotate_path=providers/x"}
    for verb, argument in given.items():
        operator.connected.unlink(missing_ok=True)
        output = operator.run(verb, "-e", argument)
        assert operator.connected.exists() and "closes the connection before an SSH server answers" in output, output


def test_a_setting_of_the_project_is_no_misspelt_argument(operator: Operator) -> None:
    output = operator.run("unseal.yml", "-e", "openmates_vault_unseal=operator", "-e", "vault_secret_shares=3")
    assert "was not started" not in output and operator.connected.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_the_check_is_the_first_task_whatever_the_tags(verb: str) -> None:
    plays = plays_of(verb)
    assert all(play["gather_facts"] is False for play in plays)
    assert CHECK in plays[0]["tasks"][0]
    assert plays[0]["tasks"][0].get("tags") == "always"
