"""What a release notes of the schema, read from the database of a real Directus."""

from __future__ import annotations

import sys

import pytest
from real import ROOT, Api

sys.path.insert(0, str(ROOT / "roles/release/files"))
import stored_schema


@pytest.fixture
def read(stack):
    """The schema, by the query of the program."""

    def now() -> dict[str, str]:
        return dict(line.split("|") for line in stack.sql(stored_schema.QUERY).splitlines())

    return now


@pytest.fixture
def noted(admin: Api):
    """A collection that is gone at the end."""
    admin.call("POST", "/collections", NOTES)
    yield "noted"
    admin.status("DELETE", "/collections/noted")


NOTES = {"collection": "noted", "schema": {}, "meta": {"note": "n"}, "fields": [{"field": "title", "type": "string"}]}


def test_each_change_of_the_schema_is_found_by_name(admin: Api, noted: str, read) -> None:
    before = read()
    assert any(name.startswith("migration ") for name in before) and "column directus_users.email" in before
    admin.call("POST", f"/fields/{noted}", {"field": "body", "type": "text"})
    admin.call("PATCH", f"/fields/{noted}/title", {"meta": {"note": "another"}})
    admin.call("PATCH", f"/collections/{noted}", {"meta": {"icon": "box"}})
    assert stored_schema.differences(before, read()) == [
        "noted: changed",
        "noted.body: created",
        "noted.title: changed",
    ]
    admin.call("DELETE", f"/collections/{noted}")
    assert stored_schema.differences(before, read()) == ["noted: removed"]


def test_what_is_made_again_and_content_are_no_change(admin: Api, noted: str, read) -> None:
    before = read()
    admin.call("POST", f"/items/{noted}", {"title": "an entry"})
    admin.call("DELETE", f"/collections/{noted}")
    admin.call("POST", "/collections", NOTES)
    assert stored_schema.differences(before, read()) == []


def test_the_place_of_a_field_in_its_form_is_no_change(admin: Api, noted: str, read) -> None:
    """A field that is made again goes to the end."""
    for field in ("body", "footer"):
        admin.call("POST", f"/fields/{noted}", {"field": field, "type": "text", "meta": {}})
    before = read()
    admin.call("DELETE", f"/fields/{noted}/body")
    admin.call("POST", f"/fields/{noted}", {"field": "body", "type": "text", "meta": {}})
    assert stored_schema.differences(before, read()) == []
