"""directus_schema against a real Directus: compare, apply, and refusals of possible losses of data."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.openmates.server.plugins.module_utils.directus import schema
from ansible_collections.openmates.server.plugins.modules import directus_config, directus_schema
from real import ROOT, SAMPLE, docker


@pytest.fixture
def connection(stack) -> dict:
    return {
        "url": stack.url,
        "email": stack.environment["ADMIN_EMAIL"],
        "password": stack.admin_password,
        "deadline": 60,
    }


@pytest.fixture
def apply(connection, run_module):
    """Run the module."""

    def run(snapshot: dict | None, *, check: bool = False, **words: bool) -> dict:
        return run_module(directus_schema.main, check=check, diff=True, **connection, snapshot=snapshot, **words)

    return run


@pytest.fixture
def applied(apply):
    """As `apply`, when the instance is as the sample is."""
    result = apply(SAMPLE, remove=True, data_loss=True)
    assert not result.get("failed"), result["msg"]
    return apply


def field(snapshot: dict, collection: str, name: str) -> dict:
    return next(f for f in snapshot["fields"] if (f["collection"], f["field"]) == (collection, name))


def retyped() -> dict:
    """The sample with a title that is a number."""
    snapshot = copy.deepcopy(SAMPLE)
    title = field(snapshot, "articles", "title")
    title["type"], title["schema"]["data_type"], title["schema"]["max_length"] = "integer", "integer", None
    return snapshot


def test_what_is_read_is_what_was_applied(applied):
    assert applied(None)["snapshot"] == SAMPLE
    for check in (True, False):
        again = applied(SAMPLE, check=check)
        assert (again["changed"], again["changes"], again["undeclared"]) == (False, [], [])


def test_drift_is_reported_and_repaired_and_additions_stay(stack, applied, admin):
    admin.call("DELETE", "/fields/articles/body")
    admin.call("PATCH", "/fields/articles/title", {"meta": {"note": "by hand"}})
    admin.call("POST", "/fields/articles", {"field": "by_hand", "type": "string", "schema": {}, "meta": {}})
    try:
        for check in (True, False):
            result = applied(SAMPLE, check=check)
            assert sorted(result["changes"]) == [
                "field articles.body: created",
                "field articles.title: meta.note corrected",
            ]
            assert result["undeclared"] == ["field articles.by_hand"]
        assert applied(SAMPLE)["changed"] is False
    finally:
        admin.call("DELETE", "/fields/articles/by_hand")


def test_what_could_lose_data_needs_a_word(stack, applied, admin):
    stack.sql("delete from articles")
    admin.call("POST", "/items/articles", {"title": "12"})
    foretold = applied(retyped(), check=True)
    assert "field articles.title: type from string to integer" in foretold["losses"]
    refused = applied(retyped())
    assert refused.get("failed") and "type from string to integer" in refused["msg"]
    assert stack.sql("select title from articles") == "12"

    fewer = {**SAMPLE, "fields": [f for f in SAMPLE["fields"] if f["field"] != "bio"]}
    assert "field authors.bio would be removed" in applied(fewer, check=True, remove=True)["losses"]
    refused = applied(fewer, remove=True)
    assert refused.get("failed") and "field authors.bio would be removed" in refused["msg"]
    done = applied(fewer, remove=True, data_loss=True)
    assert done["changes"] == ["field authors.bio: removed"]
    applied(SAMPLE)
    stack.sql("delete from articles")


def test_another_version_needs_a_word_and_rubbish_is_refused(applied):
    other = {**SAMPLE, "directus": "11.5.1"}
    refused = applied(other)
    assert refused.get("failed") and "created by Directus 11.5.1" in refused["msg"]
    assert applied(other, force=True)["changed"] is False
    for snapshot, message in (({}, "no list of collections"), ({**SAMPLE, "collections": []}, "but no collection")):
        result = applied(snapshot)
        assert result.get("failed") and message in result["msg"]


def test_directus_config_repairs_the_schema_and_refuses_losses(connection, applied, admin, run_module):
    admin.call("DELETE", "/fields/pages/slug")
    for check in (True, False):
        result = run_module(directus_config.main, check=check, diff=True, **connection, schema=SAMPLE)
        assert result["changes"] == ["field pages.slug: created"]
    refused = run_module(directus_config.main, **connection, schema=retyped())
    assert refused.get("failed") and "type from string to integer" in refused["msg"]
    missing = run_module(directus_config.main, **connection, collections=["pages", "not_there"])
    assert missing.get("failed") and "lacks required collections: not_there" in missing["msg"]


def test_both_implementations_judge_alike(stack, applied, admin, tmp_path):
    """schema.mjs, which cms-setup uses, and the module, on the same differences."""
    alias = copy.deepcopy(SAMPLE)
    body = field(alias, "articles", "body")
    body["type"], body["schema"], body["meta"]["special"] = "alias", None, ["alias", "no-data"]
    shorter = copy.deepcopy(SAMPLE)
    field(shorter, "articles", "title")["schema"]["max_length"] = 10
    longer = copy.deepcopy(SAMPLE)
    field(longer, "articles", "title")["schema"]["max_length"] = 300
    less = {**SAMPLE, "collections": [], "fields": [], "relations": []}
    diffs = []
    for snapshot in (retyped(), alias, shorter, longer, less):
        diffs.append(admin.call("POST", "/schema/diff", snapshot)["diff"])
    ours = [[schema.names(schema.additions(d)), schema.names(d), schema.losses(d)] for d in diffs]
    script = tmp_path / "judge.mjs"
    tmp_path.chmod(0o755)
    script.write_text(
        "import { additions, losses, names } from '/openmates/schema.mjs';\n"
        f"const diffs = {json.dumps(diffs)};\n"
        "console.log(JSON.stringify(diffs.map((d) => [names(additions(d)), names(d), losses(d)])));\n"
    )
    script.chmod(0o644)
    folder = ROOT / "files/compose/config/cms-setup"
    volumes = ("--volume", f"{folder}:/openmates:ro", "--volume", f"{tmp_path}:/judge:ro")
    done = docker("run", "--rm", *volumes, stack.image, "node", "/judge/judge.mjs")
    assert json.loads(done.stdout) == ours
    assert [bool(lost) for _, _, lost in ours] == [True, True, True, False, False]
