"""The README's commands, as an operator types them, in a separate checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lab import ROOT, Server, recap

VARIABLES = ROOT / "inventories/lab/group_vars"
LAB = VARIABLES / "lab"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project as it is shipped, with the password that opens the lab's secrets."""
    # Other processes write the last ones during the copy.
    ignored = shutil.ignore_patterns(
        *(".venv", ".lab", ".git", "vault-keys"),
        *("vault-snapshots", ".ansible", ".pytest_cache", ".ruff_cache", "__pycache__"),
    )
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", symlinks=True, ignore=ignored))


def site(checkout: Path, server: Server) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    command = ["ansible-playbook", "site.yml", "-i", "prod", "--limit", server.name]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def name_the_host(checkout: Path, server: Server) -> None:
    """Beside the others of the lab's inventory, which it scans."""
    lab = yaml.safe_load((VARIABLES.parent / "hosts.yml").read_text())["lab"]["children"]
    hosts = {group: {"hosts": dict.fromkeys(members["hosts"])} for group, members in lab.items()}
    ssh = {"ansible_host": server.addresses[0], "ansible_ssh_common_args": f"-F {ROOT}/.lab/ssh_config"}
    hosts[server.environment]["hosts"][server.name] = ssh
    (checkout / "prod/hosts.yml").write_text(yaml.safe_dump(hosts))


def test_site_yml_with_the_filled_in_inventory_finds_its_server_as_declared(server, checkout):
    name_the_host(checkout, server)
    settings = {
        **yaml.safe_load((LAB / "main.yml").read_text()),
        **yaml.safe_load((VARIABLES / "prod/main.yml").read_text()),
        "openmates_domain": server.domain,
        "openmates_ca_file": f"{ROOT}/.lab/acme-root.crt",
        "openmates_vault_keys_file": f"{ROOT}/inventories/vault-keys/lab/{server.name}.yml",
    }
    (checkout / "prod/group_vars/prod/main.yml").write_text(yaml.safe_dump(settings))
    shutil.copy(LAB / "secrets.yml", checkout / "prod/group_vars/prod/secrets.yml")
    run = site(checkout, server)
    assert run.returncode == 0, run.stdout[-3000:]
    assert recap(run.stdout)["changed"] == 0, run.stdout[-3000:]


def test_the_inventory_as_shipped_is_refused_before_any_change(server, checkout):
    name_the_host(checkout, server)
    run = site(checkout, server)
    assert run.returncode != 0
    for name in ("domain", "admin_email"):
        assert f"openmates_{name} in inventories/prod/group_vars/prod/main.yml:" in run.stdout
    assert "openmates_first_invite_code in prod/group_vars/prod/secrets.yml" in run.stdout
    assert recap(run.stdout)["changed"] == 0


def test_the_administrator_reaches_compose_through_sudo_only(server):
    in_readme = "sudo docker compose --project-directory /opt/openmates ps"
    assert in_readme in (ROOT / "README.md").read_text()
    user = server.run("getent group ssh-admins").split(":")[-1].split(",")[0].strip()
    assert "api" in server.run(f"su {user} -c '{in_readme} --services'").split()
    assert server.host.run(f"su {user} -c 'docker compose --project-directory /opt/openmates ps'").rc != 0
