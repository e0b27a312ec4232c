"""What the lab installs and prepares: a system package is named with its reason, and what is missing is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"


class Checkout:
    """A directory with the lab's scripts, and programs in place of the system's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("lab", "bin", "playbooks", "inventories/lab/group_vars/lab"):
            (folder / name).mkdir(parents=True)
        for file in LAB.glob("*.sh"):
            shutil.copy(file, folder / "lab")
        self.program("id", "echo 0")
        self.program("apt-get", 'echo "apt-get $*" >> called')

    def program(self, name: str, script: str, where: str = "bin") -> None:
        file = self.folder / where / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def run(self, *command: str, only: str = "/usr/bin:/bin") -> subprocess.CompletedProcess:
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{only}"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def called(self) -> list[str]:
        file = self.folder / "called"
        return file.read_text().splitlines() if file.is_file() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_system_package_is_named_with_its_reason(checkout: Checkout) -> None:
    done = checkout.run("lab/apt.sh", "a test needs it", "gnupg")
    assert done.returncode == 0 and done.stdout.splitlines() == ["apt: installing gnupg: a test needs it"]
    assert "gnupg" in checkout.called[-1] and " install " in checkout.called[-1]


def test_a_package_without_a_reason_is_refused(checkout: Checkout) -> None:
    assert "usage" in checkout.run("lab/apt.sh", "gnupg").stderr
    assert checkout.called == []


def test_a_failure_shows_the_end_of_the_log_and_the_reason_for_root(checkout: Checkout) -> None:
    checkout.program("apt-get", 'case "$*" in *install*) echo "no space left"; exit 1 ;; esac')
    done = checkout.run("lab/apt.sh", "a test needs it", "gnupg")
    assert done.returncode == 1 and "no space left" in done.stderr


@pytest.mark.parametrize(("tool", "packages"), [("gnupg", "gnupg"), ("browser", "chromium chromium-driver")])
def test_each_kind_of_tests_installs_only_its_own_tools(checkout: Checkout, tool: str, packages: str) -> None:
    for program in ("sh", "dirname", "mkdir", "date", "sleep", "kill", "flock", "tail"):
        (checkout.folder / "bin" / program).symlink_to(shutil.which(program) or f"/bin/{program}")
    done = checkout.run("/bin/sh", "lab/test_tools.sh", tool, only=f"{checkout.folder}/bin")
    assert done.returncode == 0, done.stderr
    assert checkout.called[-1].endswith(f"--no-install-recommends {packages}")


def test_nothing_is_installed_when_the_tools_are_there(checkout: Checkout) -> None:
    for program in ("gpg", "gpg-agent", "chromium", "chromedriver"):
        checkout.program(program, "exit 0")
    for tool in ("gnupg", "browser"):
        assert checkout.run("lab/test_tools.sh", tool).returncode == 0
    assert checkout.called == [] and checkout.run("lab/test_tools.sh").returncode == 2


def prepare(checkout: Checkout) -> subprocess.CompletedProcess:
    checkout.program("engine.sh", "echo engine >> called", "lab")
    checkout.program("python", 'echo "python $*" >> called')
    secrets = "inventories/lab/group_vars/lab/secrets.yml"
    checkout.program("ansible-playbook", f'echo "ansible-playbook $*" >> called; touch {secrets}')
    names = checkout.folder / "plugins/plugin_utils/operator_secrets.py"  # the list of the secrets
    names.parent.mkdir(parents=True, exist_ok=True)
    names.touch()
    os.utime(names, (1000, 1000))
    return checkout.run("lab/prepare.sh")


def test_without_the_password_file_the_command_that_makes_it_is_named(checkout: Checkout) -> None:
    done = prepare(checkout)
    assert done.returncode == 1 and "run make setup" in done.stderr and checkout.called == []


def test_engine_secrets_and_images_are_prepared_and_the_secrets_once(checkout: Checkout) -> None:
    (checkout.folder / ".vault-password").write_text("x")
    steps = ["engine", "ansible-playbook playbooks/secrets.yml -i inventories/lab"]
    images = "python lab/images.py build --no-push"
    assert prepare(checkout).returncode == 0 and checkout.called == [*steps, images]
    (checkout.folder / "called").unlink()
    assert prepare(checkout).returncode == 0 and checkout.called == ["engine", images]


LINKS = ("prod", "dev", "group_vars", "collections/ansible_collections/openmates/server/roles")


@pytest.mark.parametrize("wrong", ["", *LINKS, "directory", ".vault-password"])
def test_a_file_system_without_links_or_permissions_is_named(checkout: Checkout, wrong: str) -> None:
    """As on a disk of Windows in WSL, exFAT, a shared folder, or after Git for Windows."""
    for name in LINKS:
        link = checkout.folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if name == wrong:
            link.write_text("inventories/prod")
        else:
            link.symlink_to("inventories")
    password = checkout.folder / ".vault-password"
    password.touch(mode=0o600)
    if wrong in ("directory", ".vault-password"):
        (password if wrong == ".vault-password" else checkout.folder).chmod(0o777)
    done = checkout.run("lab/filesystem.sh")
    words = {
        "": "",
        "directory": "so Ansible ignores its ansible.cfg",
        ".vault-password": ".vault-password is executable, so Ansible would run it",
    }.get(wrong, f"{wrong} is not a link")
    assert done.returncode == bool(wrong) and words in done.stderr and len(done.stderr.splitlines()) == bool(wrong)


def test_make_looks_at_the_file_system_before_all_else() -> None:
    makefile = (LAB.parent / "Makefile").read_text()
    assert "$(VENV)/.complete: requirements.lock lab/venv.sh | filesystem\n" in makefile
    assert "filesystem:\n\t@lab/filesystem.sh\n" in makefile and "\n.PHONY: filesystem\n" in makefile
