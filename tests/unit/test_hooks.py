"""Operators' own task files: preflight refuses what is not one, and site.yml includes them in dry runs too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.hooks import NAMES, check_hooks
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

ROOT = Path(__file__).parents[2]


def problems(hooks: dict, files: dict | None = None) -> list[str]:
    settings = {"openmates_hooks": hooks, "openmates_hook_files": files or {}}
    places = {"openmates_hooks": "prod/group_vars/prod/main.yml, line 7"}
    return list(check_hooks(Preflight({}, {}, {}, settings, {}, places, {})))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- hosts: all\n  tasks: []\n", "is a playbook"),
        ("tasks: []\n", "is not a list of tasks"),
        ("", "is not a list of tasks"),
        ("- just text\n", "entry 1 is none"),
        ("- name: a\n  ansible.builtin.ping:\n- name: nothing\n  when: true\n", "has no module in task 2"),
        ("- name: [\n", "is not valid YAML (line 2)"),
    ],
)
def test_a_file_that_is_not_a_list_of_tasks_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "hook.yml"
    file.write_text(text)
    [problem] = problems({"after_site": ["hook.yml"]}, {"after_site": [str(file)]})
    for part in ("openmates_hooks in prod/group_vars/prod/main.yml, line 7", "after_site", str(file), words):
        assert part in problem


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"before_sites": ["a.yml"]}, "'before_sites' is not one of before_site,"),
        ({"before_site": "a.yml"}, "before_site is not a list of files"),
        ({"before_deploy": [7]}, "before_deploy is not a list of files"),
    ],
)
def test_a_wrong_name_or_type_is_refused(hooks: dict, words: str) -> None:
    [problem] = problems(hooks)
    assert words in problem and "Write it as {before_site:" in problem


def test_a_missing_file_is_refused_and_a_good_one_is_not(tmp_path: Path) -> None:
    good = tmp_path / "good.yml"
    good.write_text(
        "- name: a\n  ansible.builtin.debug: {msg: !unsafe '{{'}\n- block:\n    - ping:\n- local_action: ping\n"
        "- command: echo {{ item }}\n  with_items: [1]\n"
    )
    encrypted = tmp_path / "encrypted.yml"
    encrypted.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    names = {"before_site": [good.name, encrypted.name]}
    assert problems(names, {"before_site": [str(good), str(encrypted)]}) == []
    good.unlink()
    [problem] = problems(names, {"before_site": [str(good), str(encrypted)]})
    assert f"{good} does not exist" in problem


def test_site_includes_them_from_beside_the_inventory_in_dry_runs_too(tmp_path: Path) -> None:
    """With the very tasks of site.yml."""
    tasks = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]["tasks"]
    names = [task["name"] for task in tasks]
    hooks = [task for task in tasks if task.get("tags") == "hooks"]
    assert [names.index(task["name"]) for task in hooks] == [
        names.index("Stop if the server runs another release than the inventory declares") + 1,
        names.index("Note that the release works") + 1,
    ]
    wiring = yaml.safe_load((ROOT / "playbooks/group_vars/all/services.yml").read_text())["openmates_hook_files"]
    given = {"hooks": {"before_site": ["hooks/a.yml"], "after_site": [str(tmp_path / "hooks/b.yml")]}}
    play = {"hosts": "all", "gather_facts": False, "tasks": hooks, "vars": {"settings": given}}
    (tmp_path / "probe.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "hooks").mkdir()
    for name in "ab":
        hook = {"ansible.builtin.debug": {"msg": f"HOOK {name} {{{{ ansible_check_mode }}}}"}}
        (tmp_path / f"hooks/{name}.yml").write_text(yaml.safe_dump([hook]))
    (tmp_path / "prod/group_vars").mkdir(parents=True)
    (tmp_path / "prod/hosts.yml").write_text("all: {hosts: {a: {ansible_connection: local}}}\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(yaml.safe_dump({"openmates_hook_files": wiring}))
    run = [str(Path(sys.executable).parent / "ansible-playbook"), "probe.yml", "-i", "prod", "--check"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(tmp_path / "probe.yml")
    for tags, found in ([], ["HOOK a True", "HOOK b True"]), (["--tags", "stack"], []):
        done = subprocess.run([*run, *tags], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line.split("msg: ")[1].strip("'") for line in done.stdout.splitlines() if "HOOK" in line] == found


def test_the_wiring_and_preflight_know_the_same_hooks() -> None:
    text = (ROOT / "playbooks/group_vars/all/services.yml").read_text()
    assert f"[{', '.join(map(repr, NAMES))}]" in text
