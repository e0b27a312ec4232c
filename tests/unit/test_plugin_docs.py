"""Every module's documentation names the options that the module takes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "plugins/modules").glob("*.py"))


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
    # As ansible-doc does it, with what the modules' documentation fragments add.
    documented = get_docstring(module.__file__, fragment_loader, is_module=True)[0]["options"]
    compare(taken, documented)


def compare(taken: dict, documented: dict, place: str = "") -> None:
    """Assert that the argument spec and the documentation say the same of each option, and of those inside it."""
    assert set(taken) == set(documented), place
    for option, spec in taken.items():
        text, here = documented[option], f"{place}{option}"
        assert text["description"], here
        assert spec.get("type", "str") == text.get("type", "str"), here
        for key, default in (("required", False), ("default", None), ("choices", None), ("elements", None)):
            assert spec.get(key, default) == text.get(key, default), f"{here}: {key}"
        compare(spec.get("options") or {}, text.get("suboptions") or {}, f"{here}.")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_examples_and_return_values(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.openmates.server.plugins.modules.{name}")
    assert re.search(rf"openmates\.server\.{name}:", module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_why_no_module_of_another_collection_does(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.openmates.server.plugins.modules.{name}")
    description = " ".join(yaml.safe_load(module.DOCUMENTATION)["description"])
    assert re.search(r"\bA module of our own (because|for) \w", description)
