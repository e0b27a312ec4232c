"""Directus is as the lab's inventory declares it."""

from __future__ import annotations

import pytest
from directus import Directus

# Typed in from the lab's inventory.
COLLECTIONS = {"articles", "articles_tags", "authors", "categories", "pages", "tags"}
RELATIONS = {("articles", "author"), ("articles", "category"), ("articles_tags", "article"), ("articles_tags", "tag")}
POLICIES = {"read articles", "write articles", "manage pages"}
ROLES = {"Website", "Editor"}


@pytest.fixture(scope="module")
def admin(server) -> Directus:
    return Directus(server)


def test_schema_roles_and_policies_are_there(admin):
    relations = {(relation["collection"], relation["field"]) for relation in admin.call("GET", "/relations")}
    assert {item["collection"] for item in admin.call("GET", "/collections")} >= COLLECTIONS
    assert relations >= RELATIONS
    assert {policy["name"] for policy in admin.search("policies")} >= POLICIES
    assert {role["name"] for role in admin.search("roles")} >= ROLES
    assert admin.call("GET", "/settings")["project_name"] == "OpenMates"


def test_the_service_token_works_and_is_refused_outside_of_its_policy(server, admin):
    made = admin.call("POST", "/items/articles", [{"title": "shown", "status": "published"}, {"title": "hidden"}])
    website = Directus(server, "website")
    try:
        titles = {item["title"] for item in website.call("GET", "/items/articles")}
        assert "shown" in titles and "hidden" not in titles
        for method, path, body in (
            ("POST", "/items/articles", {"title": "mine"}),
            ("GET", "/items/pages", None),
            ("GET", "/items/authors?fields=bio", None),
            ("GET", "/users", None),
        ):
            assert website.status(method, path, body)[0] == 403, (method, path)
    finally:
        admin.call("DELETE", "/items/articles", [item["id"] for item in made])
