"""OpenMates' cms-setup on a server: its result is verified, missing parts are restored, and its log has no secret."""

from __future__ import annotations

import json
import shlex

import pytest
from directus import Directus

from lab import recap

# Typed in from the lab's own schema files.
COLLECTIONS = {"articles", "articles_tags", "authors", "categories", "chat_tasks", "chats", "directus_users"}
COLLECTIONS |= {"encryption_keys", "invite_codes", "pages", "tags"}


@pytest.fixture(scope="module")
def admin(server) -> Directus:
    return Directus(server)


@pytest.fixture(scope="module")
def secrets(server) -> dict[str, str]:
    return server.operator.secrets()


def run(server, *arguments: str):
    return server.playbook("site.yml", "--tags", "directus", *arguments)


def expected(server) -> dict:
    return json.loads(server.compose("exec -T api cat /cms-schema/expected.json"))


def test_the_api_sees_what_cms_setup_made(server):
    written = expected(server)
    assert set(written["collections"]) == COLLECTIONS
    assert "openmates-cms-setup" in written["source"] and written["digest"]


def test_the_first_invite_code_is_stored_and_in_no_log(server, admin, secrets):
    code, password = secrets["openmates_first_invite_code"], secrets["openmates_admin_password"]
    found = admin.call("SEARCH", "/items/invite_codes", {"query": {"filter": {"code": {"_eq": code}}}})
    assert len(found) == 1
    log = server.compose("logs --no-log-prefix cms-setup")
    assert "First Signup Invite Code: ********" in log, "the log is not the first run's: the search would prove nothing"
    logs = server.compose("logs --no-log-prefix")
    assert code not in logs and password not in logs


def test_missing_objects_are_reported_and_created_again(server, admin):
    admin.call("DELETE", "/fields/pages/slug")
    admin.call("DELETE", "/collections/chat_tasks")
    foretold = run(server, "--check")
    assert foretold.returncode == 0, foretold.stdout[-3000:]
    assert "chat_tasks, pages.slug" in foretold.stdout
    assert admin.status("GET", "/fields/pages/slug")[0] == 403, "check mode changed something"

    repaired = run(server)
    assert repaired.returncode == 0, repaired.stdout[-3000:]
    assert "chat_tasks, pages.slug" in repaired.stdout
    assert admin.call("GET", "/fields/pages/slug")["field"] == "slug"
    assert admin.call("GET", "/collections/chat_tasks")["collection"] == "chat_tasks"
    again = run(server)
    assert recap(again.stdout)["changed"] == 0, again.stdout[-3000:]


def sql(server, statement: str) -> str:
    return server.compose(f"exec -T cms-database psql -U directus -d directus -Atqc {shlex.quote(statement)}").strip()


def login(server) -> dict:
    """What the readiness probe reports of the api's login."""
    report = json.loads(server.host.run("openmates-ready --json").stdout)
    return next(part for part in report["parts"] if part["name"] == "directus_login")


def test_a_changed_account_can_log_in_again_and_a_person_keeps_the_second_factor(server, admin):
    """`admin` logs in as the api does; the administrator is another account."""
    me = admin.call("GET", "/users/me")["id"]
    admin.call("PATCH", f"/users/{me}", {"password": "set-by-hand-in-directus"})
    sql(server, "update directus_users set tfa_secret = 'JBSWY3DPEHPK3PXP' where password is not null")
    try:
        assert admin.status("GET", "/users/me")[0] == 401
        assert not login(server)["ok"]
        done = run(server)
        assert done.returncode == 0, done.stdout[-3000:]
        assert login(server)["ok"], "the probe does not try the corrected account"
        assert admin.call("GET", "/users/me")["id"] == me
        kept = sql(server, "select email from directus_users where tfa_secret is not null").split()
        assert kept and not [address for address in kept if "+openmates@" in address]
        again = run(server)
        assert (again.returncode, recap(again.stdout)["changed"]) == (0, 0), again.stdout[-3000:]
    finally:
        sql(server, "update directus_users set tfa_secret = null")
