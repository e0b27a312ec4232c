"""cms-setup.mjs, the one-shot that the stack runs, on an empty database, and with schema files that it refuses."""

from __future__ import annotations

import copy
import json
import subprocess

import pytest
from one_shot import Setup
from real import SAMPLE, Stack, docker, wait_until


def empty(stack: Stack) -> None:
    stack.sql("drop schema public cascade; create schema public")


def killed_when_made(setup: Setup, table: str) -> int:
    """Set up an empty database, kill the set-up once the table exists; the exit code, 137 if killed in time."""
    stack = setup.stack
    empty(stack)
    command = ["docker", "run", "--rm", "--name", f"{stack.name}-once", "--network", stack.name]
    command += ["--volume", f"{stack.folder}:/run/secrets:ro", *stack.environment_options(), *setup.options]
    process = subprocess.Popen([*command, stack.image, "node", "/openmates/cms-setup.mjs"], stdout=subprocess.DEVNULL)

    def made_or_ended() -> object:
        return process.poll() is not None or stack.sql(f"select to_regclass('public.{table}')")

    wait_until(made_or_ended, f"{table} is made", 180)
    docker("kill", f"{stack.name}-once", check=False)
    return process.wait(120)


@pytest.mark.parametrize("moment", ["directus_fields", "directus_users", "directus_migrations", "directus_access"])
def test_killed_while_it_sets_up_the_next_run_ends_well(setup, moment):
    """Each moment is the newest table when the container is killed."""
    stack = setup.stack
    assert any(killed_when_made(setup, moment) == 137 for _ in range(5)), "it always ended before it could be killed"
    assert stack.sql("select to_regclass('public.directus_collections')"), "killed too early to prove anything"
    output = setup.works()
    assert stack.users() == [stack.environment["ADMIN_EMAIL"]], output


def test_set_up_and_then_nothing_more(setup):
    """On an empty database, with the lock in the cache that a killed Directus left there."""
    empty(setup.stack)
    setup.stack.leave_schema_lock()
    setup.schema(SAMPLE)
    first = setup.works()
    assert "schema: collection " in first
    second = setup.works()
    assert "schema:" not in second and "administrator" not in second
    assert "its schema as in the file" in second


def test_the_expected_file_is_written_if_requested(done, tmp_path):
    tmp_path.chmod(0o777)
    options = (*done.options, "--volume", f"{tmp_path}:/cms-schema")
    asked = {"CMS_SETUP_EXPECTED": "/cms-schema/expected.json", "CMS_SETUP_SOURCE": "lab.json"}
    command = ("node", "/openmates/cms-setup.mjs")
    try:
        for schema, source in ((SAMPLE, "lab.json"), (None, "")):
            done.schema(schema)
            ended = done.stack.once(*command, options=options, **asked)
            assert ended.returncode == 0, ended.stderr
            written = json.loads((tmp_path / "expected.json").read_text())
            assert written["source"] == source
            wanted: dict[str, set[str]] = {}
            for field in schema["fields"] if schema else []:
                wanted.setdefault(field["collection"], set()).add(field["field"])
            assert {name: set(fields) for name, fields in written["collections"].items()} == wanted
        ended = done.stack.once(*command, options=done.options, CMS_SETUP_EXPECTED="/nowhere/expected.json")
        assert ended.returncode == 1 and "/nowhere/expected.json cannot be written" in ended.stderr
    finally:
        done.schema(SAMPLE)


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
            (other, "was created by Directus 11.5.1, and this is"),
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
