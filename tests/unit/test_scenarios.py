"""The Molecule scenarios: what people expect of them, in a checkout without Git's metadata too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted((ROOT / "extensions/molecule").glob("*/molecule.yml"))
SHARED = yaml.safe_load((ROOT / "extensions/molecule/config.yml").read_text())


def lab_hosts() -> set[str]:
    groups = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())["lab"]["children"]
    return {name for group in groups.values() for name in group["hosts"]}


def test_there_is_a_default_scenario() -> None:
    assert {file.parent.name for file in SCENARIOS} == {"default", "dev", "interrupted", "prod"}


def test_login_opens_a_shell_in_the_container_whose_name_the_platform_has() -> None:
    template = SHARED["driver"]["options"]["login_cmd_template"]
    command = template.format(instance="openmates-lab-prod1", lines=1, columns=1)
    assert command == "docker exec --interactive --tty openmates-lab-prod1 bash --login"


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.parent.name)
def test_a_scenario_says_what_it_proves_and_removes_its_host(file: Path) -> None:
    assert file.read_text().splitlines()[1].startswith("# Claims: ")
    scenario = yaml.safe_load(file.read_text())
    sequence = scenario.get("scenario", SHARED["scenario"])["test_sequence"]
    assert sequence[0] == "dependency" and sequence[-1] == "destroy"
    [platform] = scenario["platforms"]
    host = platform["name"].removeprefix("openmates-lab-")
    # Molecule makes an inventory of its own of the platforms. A host of the lab's inventory must not be in it: the
    # inventory's directory would be Molecule's, and what the lab's variables name lies beside the lab's.
    assert host in lab_hosts() and platform["name"] not in lab_hosts()
    arguments = scenario["ansible"]["executor"]["args"]["ansible_playbook"]
    assert f"--limit=localhost,{host}" in arguments
    assert scenario["verifier"]["options"]["hosts"] == f"docker://{platform['name']}"


def test_the_scenario_dev_converges_with_nothing_of_the_checkout() -> None:
    scenario = yaml.safe_load((ROOT / "extensions/molecule/dev/molecule.yml").read_text())
    ansible = scenario["ansible"]
    operations = scenario["verifier"]["env"]["LAB_OPERATOR"]
    assert ansible["env"]["ANSIBLE_CONFIG"] == f"{operations}/ansible.cfg"
    assert f"--inventory={operations}/dev" in ansible["executor"]["args"]["ansible_playbook"]
    made = operations.rpartition("/")[0]
    assert scenario["dependency"]["command"].split()[1] == made, "lab/operator.sh makes it"
    installed = f"{made}/collections/ansible_collections/openmates/server"
    assert ansible["playbooks"]["converge"] == f"{installed}/playbooks/site.yml"
    assert "MOLECULE_PROJECT_DIRECTORY" not in made


def test_molecule_finds_them_without_git_and_prints_nothing_that_alarms(tmp_path: Path) -> None:
    for file in ROOT.iterdir():
        if file.name != ".git":
            (tmp_path / file.name).symlink_to(file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MOLECULE", "ANSIBLE"))}
    tools = Path(sys.executable).parent
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment |= {"HOME": str(tmp_path), "NO_COLOR": "1", "PATH": path}

    def molecule(*arguments: str) -> str:
        done = subprocess.run(
            [tools / "molecule", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    listed = molecule("list", "--format", "plain")
    for file in SCENARIOS:
        assert file.parent.name in listed
    output = listed + molecule("syntax", "--scenario-name", "prod")
    assert "Molecule executed 1 scenario (1 successful)" in " ".join(output.split())
    for word in ("CRITICAL", "WARNING", "glob failed", "actions="):
        assert word not in output
