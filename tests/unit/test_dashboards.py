"""Grafana's dashboards: what they refer to is there, and their panels fit beside each other."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest
import yaml
from rendering import ROOT

PROVISIONING = ROOT / "files/compose/config/grafana/provisioning"
FILES = sorted((PROVISIONING / "dashboards").glob("*.json"))
SOURCES = yaml.safe_load((PROVISIONING / "datasources/datasources.yml").read_text())["datasources"]
WIDTH = 24


def test_there_is_one_for_each_concern() -> None:
    concerns = {"overview", "host", "containers", "api", "tasks", "logs", "backups"}
    assert {file.stem for file in FILES} == concerns
    assert len({json.loads(file.read_text())["uid"] for file in FILES}) == len(FILES)


def test_the_uids_of_the_data_sources_are_those_that_grafana_gave_them_before() -> None:
    for source in SOURCES:
        assert source["uid"] == "P" + hashlib.sha256(source["name"].encode()).hexdigest()[:16].upper()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_have_a_source_and_a_place_of_their_own(file) -> None:
    board = json.loads(file.read_text())
    kinds = {source["uid"]: source["type"] for source in SOURCES}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(kinds[source["uid"]] == source["type"] for source in sources), panel["title"]
        assert len({source["uid"] for source in sources}) == 1, panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= WIDTH
    for one, other in itertools.combinations((panel["gridPos"] for panel in board["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
