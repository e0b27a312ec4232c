"""Every module's documentation names the options that the module takes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "plugins/modules").glob("*.py"))
#: Options that only the action plugin of the same name takes.
ACTION_OPTIONS = {"file_tree": {"src", "exclude"}}


@pytest.mark.parametrize("name", MODULES)
def test_documented_options_are_those_of_the_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"ansible_collections.openmates.server.plugins.modules.{name}")
    taken: dict = {}

    class Recorded(Exception):
        """Raised in place of running the module."""

    def record(argument_spec: dict, **_: object) -> None:
        taken.update(argument_spec)
        raise Recorded

    monkeypatch.setattr(module, "AnsibleModule", record)
    with pytest.raises(Recorded):
        module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(taken) | ACTION_OPTIONS.get(name, set()) == set(documented)
    for option, spec in taken.items():
        assert spec.get("type", "str") == documented[option].get("type", "str"), option
        assert spec.get("required", False) == documented[option].get("required", False), option


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_examples_and_return_values(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.openmates.server.plugins.modules.{name}")
    assert re.search(rf"openmates\.server\.{name}:", module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)
