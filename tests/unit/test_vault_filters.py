"""How an inventory's seeds are read."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.openmates.server.plugins.filter.duration_seconds import duration_seconds
from ansible_collections.openmates.server.plugins.filter.vault_seeds import vault_seeds

SEEDS = {
    "providers/b": {"api_key": "x"},
    "providers/a": {"ensure": {"api_key": "y"}},
    "providers/c": {"enforce": {"api_key": "z"}},
    "system/d": {"generate": {"key": 40, "salt": 16}},
    "system/e": {"ensure": "a field that happens to have that name"},
}


def test_seeds_are_sorted_by_kind_and_path():
    assert list(vault_seeds(SEEDS, "ensure")) == ["providers/a", "providers/b", "system/e"]
    assert vault_seeds(SEEDS, "ensure")["providers/a"] == {"api_key": "y"}
    assert vault_seeds(SEEDS, "ensure")["system/e"] == {"ensure": "a field that happens to have that name"}
    assert vault_seeds(SEEDS, "enforce") == {"providers/c": {"api_key": "z"}}
    assert vault_seeds(SEEDS, "generate") == {"system/d": {"key": 40, "salt": 16}}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("canary", "not a table"),
        ({}, "not a table"),
        ({"enforce": {}}, "not a table"),
        ({"generate": {"key": 8}}, "16 to 512"),
        ({"generate": {"key": "canary"}}, "16 to 512"),
        ({"generate": {"key": True}}, "16 to 512"),
        ({"generate": {"key": 40}, "api_key": "canary"}, "mixes generate"),
    ],
)
def test_an_entry_that_is_none_is_named_by_its_path_only(entry, problem):
    with pytest.raises(AnsibleFilterError, match=problem) as error:
        vault_seeds({"providers/x": entry}, "ensure")
    assert "providers/x" in str(error.value) and "canary" not in str(error.value)


def test_durations_are_vaults_and_nonsense_is_refused():
    assert duration_seconds("1h30m") == 5400
    with pytest.raises(AnsibleFilterError, match="not a duration"):
        duration_seconds("soon")
