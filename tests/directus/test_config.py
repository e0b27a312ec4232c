"""directus_config against a real Directus and a real OpenBao, in the order check, run, check, run, change."""

from __future__ import annotations

import copy
import json
import secrets

import pytest
from ansible_collections.openmates.server.plugins.module_utils.directus import api
from ansible_collections.openmates.server.plugins.module_utils.directus.api import is_owned, stable_id
from ansible_collections.openmates.server.plugins.module_utils.directus.schema import Comparison
from ansible_collections.openmates.server.plugins.modules import directus_config
from real import SAMPLE, Api

TOKEN = secrets.token_hex(24)
PERSON_PASSWORD = secrets.token_hex(12)
DECLARED = {
    "policies": [
        {
            "name": "read articles",
            "description": "What the website shows",
            "permissions": [
                {"collection": "articles", "actions": ["read"], "filter": {"status": {"_eq": "published"}}},
                {"collection": "authors", "actions": ["read"], "fields": ["id", "name"]},
            ],
        },
        {
            "name": "write articles",
            "app_access": True,
            "permissions": [{"collection": "articles", "actions": ["create", "read", "update"]}],
        },
        {"name": "from the office", "ip_access": ["192.0.2.0/24"], "permissions": []},
    ],
    "roles": [
        {"name": "Website", "policies": ["read articles"]},
        {"name": "Staff", "policies": []},
        {"name": "Editor", "parent": "Staff", "policies": ["write articles"]},
    ],
    "users": [
        {"name": "website", "role": "Website", "token": True},
        {
            "name": "person",
            "email": "Person@openmates.org",
            "role": "Editor",
            "policies": ["from the office"],
            "password": PERSON_PASSWORD,
        },
    ],
    "settings": {"project_name": "OpenMates", "auth_login_attempts": 20},
    "folders": [{"name": "small", "parent": "pictures"}, {"name": "pictures"}],
    "flows": [
        {
            "name": "tell",
            "trigger": "event",
            "options": {"type": "action", "scope": ["items.create"], "collections": ["articles"]},
            "operations": [
                {"key": "first", "type": "log", "options": {"message": "one"}, "resolve": "second"},
                {"key": "second", "type": "log", "options": {"message": "two"}},
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def collections(stack) -> None:
    """The sample schema, and two articles."""
    with api.administrator(stack.url, stack.environment["ADMIN_EMAIL"], stack.admin_password, 60) as session:
        Comparison(session, SAMPLE).apply()
        articles = [{"title": "one", "status": "published"}, {"title": "two", "status": "draft"}]
        session.ask("POST", "/items/articles", articles)


@pytest.fixture
def configure(stack, vault, collections, run_module):
    """Run the module with the declaration and changes to it."""

    def run(*, check: bool = False, diff: bool = True, vault_keeps: str = TOKEN, **changes: object) -> dict:
        vault.put("website", vault_keeps)
        source = {"url": vault.url, "token_file": str(vault.token_file)}
        connection = {
            "url": stack.url,
            "email": stack.environment["ADMIN_EMAIL"],
            "password": stack.admin_password,
            "deadline": 60,
        }
        arguments = {**copy.deepcopy(DECLARED), **connection, "tokens_from": source, **changes}
        result = run_module(directus_config.main, check=check, diff=diff, **arguments)
        shown = json.dumps(result)
        known = (TOKEN, vault_keeps, PERSON_PASSWORD, stack.admin_password)
        assert not [number for number, secret in enumerate(known) if secret in shown], "a secret was shown"
        return result

    return run


@pytest.fixture
def configured(configure):
    """As `configure`, after everything is as declared."""
    result = configure()
    assert not result.get("failed"), result["msg"]
    return configure


def rows(admin: Api) -> dict[str, list[dict]]:
    kinds = ("roles", "policies", "access", "permissions", "folders", "flows", "operations")
    return {kind: sorted(admin.search(kind), key=json.dumps) for kind in kinds}


def test_check_then_run_then_nothing_more(configure, admin):
    before = rows(admin)
    foretold = configure(check=True)
    assert foretold["changed"]
    assert rows(admin) == before, "check mode changed something"
    done = configure()
    assert done["changes"] == foretold["changes"]
    assert {"role Editor: created", "policy read articles: created", "user website: created"} <= set(done["changes"])
    assert "permission of policy read articles: read articles: created" in done["changes"]
    for check in (True, False):
        again = configure(check=check)
        assert (again["changed"], again["changes"], again["undeclared"]) == (False, [], [])


def test_a_persons_second_factor_does_not_matter_and_another_password_does(configured, stack):
    person = {"email": "person@openmates.org", "password": PERSON_PASSWORD}
    stack.sql("update directus_users set tfa_secret = 'JBSWY3DPEHPK3PXP' where email ilike 'person@openmates.org'")
    try:
        done = configured(administrator=person)
        assert (done["changed"], done.get("failed")) == (False, None), done
        refused = configured(administrator={**person, "password": "another-password"})
        assert refused["refused"] and "refuses the login of person@openmates.org" in refused["msg"]
    finally:
        stack.sql("update directus_users set tfa_secret = null")


def test_the_ids_are_the_same_everywhere(configured, admin):
    made = {role["name"]: role["id"] for role in admin.search("roles")}
    assert made["Editor"] == stable_id("role", "Editor") == "505e3ec7-945e-8748-88d9-49b5c705118f"
    assert is_owned(made["Editor"]) and not is_owned(made["Administrator"])


def test_the_service_token_works_and_is_refused_outside_of_its_policy(stack, configured):
    website = Api(stack.url, TOKEN)
    assert [item["status"] for item in website.call("GET", "/items/articles")] == ["published"]
    for method, path, body in (
        ("POST", "/items/articles", {"title": "three"}),
        ("DELETE", "/items/articles/5a1b0c9e-0000-4000-8000-000000000000", None),
        ("GET", "/items/authors?fields=bio", None),
        ("GET", "/items/elsewhere", None),
        ("GET", "/users", None),
    ):
        status, answer = website.status(method, path, body)
        assert status == 403 and answer["errors"][0]["extensions"]["code"] == "FORBIDDEN", (method, path, answer)
    assert Api(stack.url, "x" * 40).status("GET", "/items/articles")[0] == 401


def test_drift_by_hand_is_reported_and_repaired(stack, configured, admin):
    role, policy = stable_id("role", "Editor"), stable_id("policy", "read articles")
    admin.call("PATCH", f"/roles/{role}", {"name": "Schreiber"})
    admin.call("PATCH", "/settings", {"project_name": "Something else"})
    admin.call("PATCH", f"/users/{stable_id('user', 'website')}", {"token": "taken-over-by-hand", "role": None})
    rule = admin.search("permissions", filter={"policy": {"_eq": policy}, "collection": {"_eq": "articles"}})[0]
    admin.call("PATCH", f"/permissions/{rule['id']}", {"permissions": {}})
    added = {"policy": policy, "collection": "articles", "action": "delete", "fields": ["*"], "permissions": {}}
    admin.call("POST", "/permissions", added)
    admin.call("PATCH", f"/operations/{stable_id('operation', 'tell/first')}", {"resolve": None})
    admin.call("DELETE", f"/operations/{stable_id('operation', 'tell/second')}")
    admin.call("PATCH", f"/users/{stable_id('user', 'person')}", {"password": "another-password"})
    # In the database too, which Directus's cache does not notice.
    stack.sql("update directus_policies set app_access = false where name = 'write articles'")

    expected = [
        "settings: project_name corrected",
        "policy write articles: app_access corrected",
        "role Editor: name corrected",
        "user website: role, token corrected",
        "user person: password corrected",
        "permission of policy read articles: read articles: permissions corrected",
        "operation tell/second: created",
        "operation tell/first: resolve corrected",
    ]
    for check in (True, False):
        result = configured(check=check)
        assert not result.get("failed"), result["msg"]
        assert sorted(result["changes"]) == sorted(expected)
        assert result["undeclared"] == ["permission of policy read articles: delete articles"]
        assert 'name: "Schreiber"' in result["diff"]["before"]
        assert 'name: "Editor"' in result["diff"]["after"]
    again = configured()
    assert (again["changed"], again["undeclared"]) == (False, ["permission of policy read articles: delete articles"])
    assert [item["status"] for item in Api(stack.url, TOKEN).call("GET", "/items/articles")] == ["published"]
    Api(stack.url).log_in("person@openmates.org", PERSON_PASSWORD)

    assert configured(prune=True)["changes"] == ["permission of policy read articles: delete articles: removed"]
    assert configured(prune=True)["changed"] is False


def test_a_token_written_into_vault_takes_effect(stack, configured, vault):
    rotated = secrets.token_hex(24)
    vault.put("website", rotated)
    result = configured(vault_keeps=rotated)
    assert result["changes"] == ["user website: token corrected"]
    assert Api(stack.url, rotated).status("GET", "/items/articles")[0] == 200
    assert Api(stack.url, TOKEN).status("GET", "/items/articles")[0] == 401


def test_prune_removes_only_owned_objects(configured, admin):
    by_hand = admin.call("POST", "/roles", {"name": "By hand"})
    fewer = {
        "roles": [role for role in DECLARED["roles"] if role["name"] != "Editor"],
        "users": [user for user in DECLARED["users"] if user["name"] != "person"],
        "flows": [],
    }
    kept = configured(**fewer)
    assert (kept["changed"], sorted(kept["undeclared"])) == (False, ["role Editor"])
    pruned = configured(**fewer, prune=True)
    assert sorted(pruned["changes"]) == [
        "flow tell: removed",
        "role Editor: removed",
        "user Person@openmates.org: removed",
    ]
    assert by_hand["id"] in {role["id"] for role in admin.search("roles")}

    absent = [*DECLARED["roles"], {"name": "By hand", "state": "absent"}, {"name": "Website", "state": "absent"}]
    users = [{"name": "website", "token": True}]
    result = configured(roles=[role for role in absent if role.get("policies") != ["read articles"]], users=users)
    assert "role Website: removed" in result["changes"]
    assert "role By hand, which was not created by this module" in result["undeclared"]
    admin.call("DELETE", f"/roles/{by_hand['id']}")


def test_objects_made_by_hand_are_adopted(configured, admin):
    by_hand = admin.call("POST", "/roles", {"name": "Translator", "icon": "face"})
    try:
        result = configured(roles=[*DECLARED["roles"], {"name": "Translator", "icon": "translate", "policies": []}])
        assert result["changes"] == ["role Translator: icon corrected"]
        assert [role["id"] for role in admin.search("roles") if role["name"] == "Translator"] == [by_hand["id"]]
    finally:
        admin.call("DELETE", f"/roles/{by_hand['id']}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": [{"name": "x", "role": "Missing"}]}, "refers to the role Missing"),
        ({"roles": [{"name": "x", "policies": ["none"]}]}, "refers to the policy none"),
        ({"users": [{"name": "unknown", "token": True}]}, "kv/system/directus/unknown"),
        ({"settings": {"no_such": 1}}, "Directus has no setting no_such"),
        ({"settings": {"ai_openai_api_key": "sk-1234567890"}}, "is a secret"),
        ({"roles": [{"name": "twice"}, {"name": "twice"}]}, "declared twice"),
        ({"password": "not-the-password"}, "refuses the login of admin@lab.openmates.org"),
        ({"flows": [{"name": "x", "operations": [{"key": "a", "type": "log", "resolve": "a"}]}]}, "back to a"),
        ({"folders": [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]}, "its own parent"),
        ({"url": "http://127.0.0.1:9", "deadline": 1}, "Waited 1 s"),
    ],
)
def test_a_clear_error_and_nothing_more(configured, changes, message):
    result = configured(**changes)
    assert result.get("failed") and message in result["msg"]


def test_check_mode_where_there_is_no_directus_yet(configure):
    for url in ("http://:8055", "http://127.0.0.1:9"):
        result = configure(check=True, url=url)
        assert result["changed"] and "does not exist yet" in result["changes"][0]


def test_a_limit_of_the_licence_is_reported_as_one(stack, configured):
    """Directus 12 answers so when its licence's limits are reached; 11 does it with limits in its environment."""
    stack.start_cms(USERS_API_ACCESS_LIMIT="1")
    try:
        result = configured(url=stack.url, users=[*DECLARED["users"], {"name": "more", "role": "Website"}])
        assert result.get("failed") and "licence does not allow it" in result["msg"], result
    finally:
        stack.start_cms()
