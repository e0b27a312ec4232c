"""ready.py's parts of Directus against a real one."""

from __future__ import annotations

import importlib.util
import json

import pytest
from real import ADMIN, ROOT, Api

spec = importlib.util.spec_from_file_location("ready", ROOT / "files/compose/config/bin/ready.py")
ready = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ready)


@pytest.fixture(scope="module")
def collections(stack):
    """Two collections, one with a field beside its key, and a folder, which has no table."""
    api = Api(stack.url).log_in(ADMIN, stack.admin_password)
    title = {"field": "title", "type": "string", "schema": {}, "meta": {}}
    api.call("POST", "/collections", {"collection": "ready_one", "schema": {}, "meta": {}, "fields": [title]})
    api.call("POST", "/collections", {"collection": "ready_two", "schema": {}, "meta": {}})
    api.call("POST", "/collections", {"collection": "ready_folder", "schema": None, "meta": {}})
    yield {"ready_one": ["id", "title"], "ready_two": ["id"], "ready_folder": []}
    for name in ("ready_one", "ready_two", "ready_folder"):
        api.status("DELETE", f"/collections/{name}")


@pytest.fixture
def probe(stack, collections, tmp_path, monkeypatch):
    """A function that runs the probe and returns all parts and the result of the login."""
    expected = tmp_path / "expected.json"
    expected.write_text(json.dumps({"source": "test", "collections": collections}))
    monkeypatch.setenv("CMS_URL", stack.url)
    monkeypatch.setenv("DATABASE_ADMIN_EMAIL", ADMIN)

    def run(password: str = "") -> tuple[dict[str, tuple[bool, str]], str]:
        monkeypatch.setenv("DATABASE_ADMIN_PASSWORD", password or stack.admin_password)
        parts = ready.Parts()
        directus = ready.Directus(parts, expected, "")
        directus.check(lambda: True)
        return dict(parts._results), directus.login_result

    return run


def test_all_is_there_and_no_session_is_left(stack, probe):
    sessions = "select count(*) from directus_sessions"
    before = stack.sql(sessions)
    found, login = probe()
    assert login == "accepted" and all(ok for ok, _ in found.values()), found
    assert stack.sql(sessions) == before


def test_a_wrong_password_and_a_suspended_administrator(stack, probe):
    found, login = probe("wrong")
    assert login == "rejected" and not any(ok for ok, _ in found.values())
    assert probe()[1] == "accepted"
    stack.sql(f"update directus_users set status = 'suspended' where email = '{ADMIN}'")
    try:
        found, login = probe()
        assert login == "rejected" and "or the account is suspended" in found["directus_login"][1]
    finally:
        stack.sql(f"update directus_users set status = 'active' where email = '{ADMIN}'")
    assert probe()[1] == "accepted"


@pytest.mark.parametrize(
    ("broken", "restored", "expected"),
    [
        (
            "alter table ready_one rename to ready_away",
            "alter table ready_away rename to ready_one",
            {"collections": "1 of 3 are missing: ready_one"},
        ),
        (
            "alter table ready_one rename column title to away",
            "alter table ready_one rename column away to title",
            {"fields": "1 of 3 are missing: ready_one.title"},
        ),
    ],
)
def test_what_is_missing_is_named(stack, admin, probe, broken, restored, expected):
    stack.sql(broken)
    try:
        admin.status("POST", "/utils/cache/clear?system")
        found, _ = probe()
    finally:
        stack.sql(restored)
        admin.status("POST", "/utils/cache/clear?system")
    assert {name: detail for name, (ok, detail) in found.items() if not ok} == expected
    assert all(ok for ok, _ in probe()[0].values())


def test_a_collection_deleted_in_directus_is_missing(admin, probe):
    admin.call("DELETE", "/collections/ready_two")
    found, _ = probe()
    assert found["collections"] == (False, "1 of 3 are missing: ready_two")
    assert found["fields"][0]
