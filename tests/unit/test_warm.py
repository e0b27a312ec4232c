"""What the main process loads and packs before its first fork."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible_collections.openmates.server.plugins.plugin_utils import packing

ROOT = Path(__file__).parents[2]
TASKS = [
    {"openmates.server.settings": None},
    {"block": [{"ansible.builtin.ping": None}], "rescue": [{"openmates.server.host_units": {"units": []}}]},
    {"ansible.builtin.debug": {"msg": "controller"}},
    {"ansible.builtin.ping": None},
]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    return Play.load({"hosts": "all", "tasks": TASKS}, loader=DataLoader())


def packed(folder: Path) -> set[str]:
    return {file.name.split("-")[0] for file in folder.glob("ansiballz_cache/*") if file.suffix != ".lock"}


def test_the_modules_that_the_tasks_send_are_packed_where_ansible_finds_them(play: Play, tmp_path: Path) -> None:
    names = packing.sent(packing.actions(play.tasks))
    assert names == ["ansible.builtin.ping", "openmates.server.host_units"]
    os.waitpid(packing.start(names, play.get_loader()), 0)
    units = "ansible_collections.openmates.server.plugins.modules.host_units"
    assert packed(tmp_path) == {"ansible.modules.ping", units}


def test_a_file_that_several_modules_import_is_parsed_once(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    parsed: list[str] = []
    parse = packing.module_common._compile_module_ast

    def noted(name: str, source: str | bytes) -> object:
        parsed.append(name)
        return parse(name, source)

    monkeypatch.setattr(packing.module_common, "_compile_module_ast", noted)
    packing.parse_once()
    packing.pack(["ansible.builtin.ping", "ansible.builtin.command"], play.get_loader())
    assert len(parsed) == len(set(parsed)) and "ansible.module_utils.basic" in parsed


def test_an_ansible_that_packs_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    monkeypatch.setattr(packing.module_common, "modify_module", lambda: None)
    monkeypatch.delattr(packing.module_common, "_compile_module_ast")
    assert os.waitpid(packing.start(["ansible.builtin.ping"], play.get_loader()), 0)[1] == 0


def test_filters_and_tests_are_loaded_before_the_first_fork(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("warm", ROOT / "playbooks/callback_plugins/openmates_warm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    started: list[list[str]] = []
    monkeypatch.setattr(module.packing, "start", lambda names, _loader: started.append(list(names)))
    try:
        module.CallbackModule().v2_playbook_on_play_start(play)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert "ansible.builtin.combine" in {plugin.ansible_name for plugin in module.filter_loader.all()}
    ours = {path.stem for path in (ROOT / "plugins/filter").glob("*.py")}
    assert {f"ansible_collections.openmates.server.plugins.filter.{name}" for name in ours} <= set(sys.modules)
    assert started == [["ansible.builtin.ping", "openmates.server.host_units"]]
