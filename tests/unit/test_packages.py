"""A role brings its packages: the playbook hands all of them to one call; a role that runs alone installs its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]


def load(name: str) -> dict:
    path = ROOT / name
    return yaml.safe_load(path.read_text()) if path.exists() else {}


DEFAULTS = {path.parts[-3]: load(str(path.relative_to(ROOT))) for path in ROOT.glob("roles/*/defaults/main.yml")}
#: Roles with packages of their own. The role base installs its own as well as the others'.
#: Those of the role backup depend on settings: test_backup.py.
WITH_PACKAGES = sorted(
    role for role, data in DEFAULTS.items() if f"{role}_packages" in data and role not in ("base", "packages", "backup")
)
LISTS = {f"{role}_packages": DEFAULTS[role][f"{role}_packages"] for role in WITH_PACKAGES} | {
    "openmates_backup_needs": []
}
WIRING = load("playbooks/group_vars/all/roles.yml")


def rendered(text: str, **variables: object) -> object:
    return Templar(DataLoader(), variables=variables).template(trust_as_template(text))


def names(role: str) -> list[str]:
    return [package["name"] for package in DEFAULTS[role][f"{role}_packages"]]


def test_what_a_roles_name_promises_is_in_the_role() -> None:
    assert {"docker.io", "docker-cli", "docker-compose"} == set(names("docker"))
    assert names("caddy") == ["caddy"]
    assert {"caddy", "docker", "firewall", "hardening", "monitoring", "vault"} == set(WITH_PACKAGES)


def test_the_playbook_hands_the_packages_of_all_roles_to_one_call() -> None:
    found = rendered(WIRING["base_packages"], **LISTS)
    assert sorted(found) == sorted(name for role in WITH_PACKAGES for name in names(role))


@pytest.mark.parametrize("role", WITH_PACKAGES)
def test_a_role_that_runs_alone_installs_what_is_missing_before_all_else(role: str) -> None:
    first = load_tasks(role)[0]
    variable = f"{role}_packages_missing"
    assert first["ansible.builtin.include_role"] == {"name": "packages"}
    assert first["vars"] == {"packages_names": f"{{{{ {variable} }}}}"}
    assert first["when"] == f"{variable} | length > 0"
    alone = rendered(DEFAULTS[role][variable], **LISTS)
    assert alone == names(role)


def load_tasks(role: str) -> list[dict]:
    return yaml.safe_load((ROOT / f"roles/{role}/tasks/main.yml").read_text())


def lacking(role: str, **variables: object) -> list[str]:
    """The packages that the playbook has a role install."""
    wiring = {name: trust_as_template(WIRING[name]) for name in ("base_packages", "openmates_packages_missing")}
    return sorted(rendered(WIRING[f"{role}_packages_missing"], **LISTS, **wiring, **variables))


@pytest.mark.parametrize("role", WITH_PACKAGES)
def test_the_playbook_has_a_role_install_what_the_host_lacks(role: str) -> None:
    installed = dict.fromkeys(names(role), "installed")
    assert lacking(role, host_info={"packages": {}}) == sorted(names(role))
    assert lacking(role, host_info={"packages": installed}) == []
    first = names(role)[0]
    assert lacking(role, host_info={"packages": installed | {first: "half-configured"}}) == [first]


def test_what_the_role_base_installed_in_this_run_is_not_installed_again() -> None:
    assert lacking("docker", host_info={"packages": {}}, base_installed=["docker.io"]) == []


def test_a_verb_that_does_not_look_at_the_packages_installs_none() -> None:
    assert lacking("vault") == []
