"""cms-setup.mjs on a database that is in use: upgrades, the administrator, changes by hand, no database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from ansible_collections.openmates.server.plugins.module_utils.directus import api as directus_api
from one_shot import Setup
from real import Api, Stack, docker


def older(stack: Stack, steps: int) -> None:
    """Revert that many of Directus's own migrations."""
    for _ in range(steps):
        done = stack.once("node", "cli.js", "database", "migrate:down")
        assert done.returncode == 0, done.stderr


def newest(stack: Stack) -> str:
    return stack.sql("select max(version) from directus_migrations")


def test_migrations_are_all_done_or_none(done):
    stack, latest = done.stack, newest(done.stack)
    stack.sql("insert into tags (name) values ('from before')")
    older(stack, 3)
    before = newest(stack)
    assert before < latest
    # The last of the three fails: its table already exists.
    table = "directus_deployment_runs"
    assert not stack.sql(f"select to_regclass('public.{table}')"), "choose a table that the last migrations make"
    stack.sql(f"create table {table} (id int)")
    assert "all of them were undone" in done.fails()
    assert newest(stack) == before
    stack.sql(f"drop table {table}")

    assert "3 migrations to Directus" in done.works()
    assert newest(stack) == latest
    assert stack.sql("select count(*) from tags where name = 'from before'") == "1"


def test_a_database_of_a_newer_directus_is_left_alone(done):
    stack = done.stack
    stack.sql("insert into directus_migrations (version, name) values ('29990101A', 'From the future')")
    assert "set up by a newer Directus" in done.fails()
    stack.sql("delete from directus_migrations where version = '29990101A'")
    done.works()


def test_no_other_user_can_log_in(done):
    """Collections and items exist, so nothing is removed: an administrator is created."""
    stack = done.stack
    stack.sql("insert into tags (name) values ('kept')")
    stack.sql("delete from directus_users; delete from directus_access; delete from directus_roles")
    assert "administrator admin@lab.openmates.org: made" in done.works()
    assert stack.sql("select count(*) from tags where name = 'kept'") == "1"


@pytest.fixture(scope="module")
def cms(done: Setup) -> Iterator[Setup]:
    """Directus runs on it."""
    done.stack.start_cms()
    yield done
    docker("rm", "--force", "--volumes", f"{done.stack.name}-cms")


def test_password_and_address_of_the_inventory_take_effect(cms):
    """Changes of the administrator by hand."""
    stack = cms.stack
    Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    stack.secrets["ADMIN_PASSWORD"] = "another-" + stack.admin_password
    stack.write_secrets()
    stack.sql("update directus_users set status = 'suspended'")
    before = stack.sql("select id from directus_users")
    output = cms.works(ADMIN_EMAIL="chief@lab.openmates.org")
    assert "email, password, status as in the inventory" in output
    Api(stack.url).log_in("chief@lab.openmates.org", stack.admin_password)
    assert stack.sql("select id from directus_users") == before, "the administrator is still the same user"
    assert stack.admin_password not in output
    assert "email as in the inventory" in cms.works()
    assert "administrator" not in cms.works()


def test_the_api_has_an_account_of_its_own_without_a_second_factor(cms):
    """The administrator keeps the second factor, and a password that differs from the inventory's is noticed."""
    stack, account = cms.stack, "chief+openmates@lab.openmates.org"
    stack.secrets["ACCOUNT_PASSWORD"] = "account-" + stack.admin_password
    stack.write_secrets()
    names = {"ADMIN_EMAIL": "chief@lab.openmates.org", "CMS_SETUP_ACCOUNT": account}
    names["CMS_SETUP_ACCOUNT_SECRET"] = "/run/secrets/ACCOUNT_PASSWORD"
    output = cms.works(**names)
    assert f"account of the api {account}: made" in output and stack.secrets["ACCOUNT_PASSWORD"] not in output
    assert stack.users() == [account, "chief@lab.openmates.org"]
    stack.sql("update directus_users set tfa_secret = 'JBSWY3DPEHPK3PXP'")
    with pytest.raises(directus_api.AdministratorRefused, match=r"site\.yml corrects"):
        directus_api.administrator(stack.url, account, stack.secrets["ACCOUNT_PASSWORD"], 60)

    assert f"account of the api {account}: tfa_secret as in the inventory" in cms.works(**names)
    assert stack.sql("select email from directus_users where tfa_secret is not null") == "chief@lab.openmates.org"
    with directus_api.administrator(stack.url, account, stack.secrets["ACCOUNT_PASSWORD"], 60) as session:
        assert session.takes("chief@lab.openmates.org", stack.admin_password)
        directus_api.check_login(session, "chief@lab.openmates.org", stack.admin_password)
        with pytest.raises(directus_api.AdministratorRefused, match="chief@lab"):
            directus_api.check_login(session, "chief@lab.openmates.org", "another-password")
    assert "administrator" not in cms.works(**names) and stack.users() == [account, "chief@lab.openmates.org"]
    stack.sql(f"update directus_users set tfa_secret = null; delete from directus_users where email = '{account}'")
    cms.works()


def test_a_field_removed_by_hand_comes_back_and_nothing_is_ever_removed(cms):
    stack = cms.stack
    admin = Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    admin.call("DELETE", "/fields/articles/title")
    admin.call("POST", "/fields/articles", {"field": "by_hand", "type": "string", "schema": {}, "meta": {}})
    assert "schema: field articles.title: created" in cms.works()
    assert stack.sql("select count(by_hand) from articles") == "0"
    assert "schema:" not in cms.works()


@pytest.mark.parametrize(
    ("message", "code"),
    [("Connection in subscriber mode, only subscriber commands may be used", 0), ("something else", 1)],
)
def test_a_rejected_ready_check_of_the_cache_does_not_end_it(done, message: str, code: int) -> None:
    """Any other unhandled rejection ends it with an error."""
    late = f"setTimeout(() => Promise.reject(new Error({json.dumps(message)})), 300)"
    options = ("--env", f"NODE_OPTIONS=--import=data:text/javascript,{quote(late)}", *done.options)
    ended = done.stack.once("node", "/openmates/cms-setup.mjs", options=options)
    assert ended.returncode == code, ended.stderr[-3000:]
    assert ("Reconnecting to the cache" in ended.stderr) == (code == 0)


def test_the_database_is_down_or_refuses(done):
    stack = done.stack
    assert "refuses the user directus" in done.fails(DB_PASSWORD_FILE="string:/run/secrets/SECRET")
    assert "has no database nowhere" in done.fails(DB_DATABASE="nowhere")
    docker("stop", f"{stack.name}-db")
    begun = time.monotonic()
    message = done.fails(CMS_SETUP_DEADLINE="4")
    assert "no database at" in message and "within 4 s" in message
    assert time.monotonic() - begun < 115, "it waited for its default of 120 s"
    docker("start", f"{stack.name}-db")
    stack.wait_for_database()
    done.works()
