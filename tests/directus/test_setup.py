"""cms-setup.mjs, the one-shot that the stack runs, against real databases in every state it may find."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import ROOT, SAMPLE, Api, Stack, docker, wait_until

SCRIPTS = ROOT / "files/compose/config/cms-setup"


class Setup:
    """The one-shot, with a schema file of its own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.folder.chmod(0o755)
        for script in SCRIPTS.glob("*.mjs"):
            (self.folder / script.name).write_text(script.read_text())
        self.schema(None)

    def schema(self, snapshot: object, force: bool = False) -> None:
        (self.folder / "setup.json").write_text(json.dumps({"schema": snapshot, "force": force}))

    @property
    def options(self) -> tuple[str, ...]:
        return ("--volume", f"{self.folder}:/openmates:ro")

    def run(self, **environment: str) -> subprocess.CompletedProcess:
        return self.stack.once("node", "/openmates/cms-setup.mjs", options=self.options, **environment)

    def works(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def fails(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
        assert "cms-setup: failed: " in done.stderr
        return done.stderr.split("cms-setup: failed: ")[1]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty database and a cache, without a Directus."""
    stack = Stack(tmp_path_factory.mktemp("setup-secrets"), "openmates-directus-setup")
    try:
        stack.start_stores()
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def setup(stores: Stack, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(stores, tmp_path_factory.mktemp("setup"))


@pytest.fixture(scope="module")
def done(setup: Setup) -> Setup:
    """A database that is set up, with the sample schema."""
    setup.schema(SAMPLE)
    setup.works()
    return setup


def empty(stack: Stack) -> None:
    stack.sql("drop schema public cascade; create schema public")


def admins(stack: Stack) -> list[str]:
    return stack.sql("select email from directus_users order by 1").split()


@pytest.mark.parametrize("moment", ["directus_fields", "directus_users", "directus_migrations", "directus_access"])
def test_killed_while_it_sets_up_the_next_run_ends_well(setup, moment):
    """Each moment is the table that has just been made when the container is killed."""
    stack = setup.stack
    empty(stack)
    command = ["docker", "run", "--rm", "--name", f"{stack.name}-once", "--network", stack.name]
    command += ["--volume", f"{stack.folder}:/run/secrets:ro", *stack.environment_options(), *setup.options]
    process = subprocess.Popen([*command, stack.image, "node", "/openmates/cms-setup.mjs"], stdout=subprocess.DEVNULL)

    def made() -> str:
        assert process.poll() is None, "it ended before it could be killed"
        return stack.sql(f"select to_regclass('public.{moment}')")

    wait_until(made, f"{moment} is made", 60)
    docker("kill", f"{stack.name}-once")
    process.wait(30)
    assert stack.sql("select to_regclass('public.directus_collections')"), "killed too early to prove anything"
    output = setup.works()
    assert admins(stack) == [stack.environment["ADMIN_EMAIL"]], output


def test_set_up_and_then_nothing_more(setup):
    empty(setup.stack)
    setup.schema(SAMPLE)
    first = setup.works()
    assert "schema: collection " in first
    second = setup.works()
    assert "schema:" not in second and "administrator" not in second
    assert "its schema as in the file" in second


def older(stack: Stack, steps: int) -> None:
    """Take the database back by that many of Directus's own migrations."""
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
    # The last of the three cannot be done: somebody has made its table already.
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


def test_nobody_is_left_who_can_log_in(done):
    """Collections and items are there, so nothing is thrown away: an administrator is made."""
    stack = done.stack
    stack.sql("insert into tags (name) values ('kept')")
    stack.sql("delete from directus_users; delete from directus_access; delete from directus_roles")
    assert "administrator admin@lab.openmates.org: made" in done.works()
    assert stack.sql("select count(*) from tags where name = 'kept'") == "1"


@pytest.fixture
def cms(done: Setup) -> Iterator[Setup]:
    """Directus runs on it."""
    done.stack.start_cms()
    yield done
    docker("rm", "--force", "--volumes", f"{done.stack.name}-cms")


def test_password_and_address_of_the_inventory_take_effect(cms):
    """Whatever somebody did to the administrator in the meantime."""
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


def test_a_field_removed_by_hand_comes_back_and_nothing_is_ever_removed(cms):
    stack = cms.stack
    admin = Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    admin.call("DELETE", "/fields/articles/title")
    admin.call("POST", "/fields/articles", {"field": "by_hand", "type": "string", "schema": {}, "meta": {}})
    assert "schema: field articles.title: created" in cms.works()
    assert stack.sql("select count(by_hand) from articles") == "0"
    assert "schema:" not in cms.works()


def test_a_schema_that_would_lose_data_is_refused(done):
    stack = done.stack
    changed = copy.deepcopy(SAMPLE)
    field = next(f for f in changed["fields"] if (f["collection"], f["field"]) == ("articles", "title"))
    field["type"], field["schema"]["data_type"], field["schema"]["max_length"] = "integer", "integer", None
    changed["collections"].append({"collection": "more", "meta": {"collection": "more"}, "schema": {"name": "more"}})
    try:
        done.schema(changed)
        message = done.fails()
        assert "field articles.title: type from string to integer" in message and "data_loss" in message
        assert stack.sql("select to_regclass('public.more')") == ""
    finally:
        done.schema(SAMPLE)
    done.works()


def test_broken_and_foreign_schema_files_are_refused_before_anything_is_touched(done):
    other = {**SAMPLE, "directus": "11.5.1"}
    incomplete, nonsense = copy.deepcopy(SAMPLE), copy.deepcopy(SAMPLE)
    incomplete["fields"].append({"collection": "nowhere", "field": "x", "type": "string", "meta": {}, "schema": {}})
    nonsense["collections"].append({"collection": "aaa", "meta": {"collection": "aaa"}, "schema": {"name": "aaa"}})
    nonsense["relations"].append(
        {
            "collection": "pages",
            "field": "slug",
            "related_collection": "nowhere",
            "meta": {},
            "schema": {"table": "pages"},
        }
    )
    try:
        for snapshot, message in (
            ({"collections": []}, "no list of fields"),
            ("text", "no list of collections"),
            (other, "was made by Directus 11.5.1, and this is"),
        ):
            done.schema(snapshot)
            assert message in done.fails()
        (done.folder / "setup.json").write_text("{broken")
        assert "cannot be used" in done.fails()
        done.schema(other, force=True)
        done.works()
        done.schema(incomplete)
        assert "a field nowhere.x, but no collection nowhere" in done.fails()
        done.schema(nonsense)
        assert "applied nothing of it" in done.fails()
        assert done.stack.sql("select to_regclass('public.aaa')") == ""
    finally:
        done.schema(SAMPLE)
    assert "its schema as in the file" in done.works()


def test_the_database_is_down_or_refuses(done):
    stack = done.stack
    assert "refuses the user directus" in done.fails(DB_PASSWORD_FILE="/run/secrets/SECRET")
    assert "has no database nowhere" in done.fails(DB_DATABASE="nowhere")
    docker("stop", f"{stack.name}-db")
    begun = time.monotonic()
    assert "no database at" in done.fails(CMS_SETUP_DEADLINE="4")
    assert time.monotonic() - begun < 60
    docker("start", f"{stack.name}-db")
    stack.wait_for_database()
    done.works()
