"""OpenMates' own cms-setup, in the lab's image of it, in its wrapper, against a real Directus."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules import directus_config
from real import ADMIN, ROOT, Api, Stack, docker, image, wait_until

BIN = ROOT / "files/compose/config/bin"
CODE = "T3ST-C0DE-2026"
# Typed in from the lab's schema files.
COLLECTIONS = {"articles", "articles_tags", "authors", "categories", "chat_tasks", "chats", "directus_users"}
COLLECTIONS |= {"encryption_keys", "invite_codes", "pages", "tags"}


class OwnSetup:
    """The one-shot as the Compose file has it: a user without rights, a read-only root, secrets of that user."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.image = stack, image("cms-setup")
        self.secrets, self.schema = folder / "secrets", folder / "schema"
        for path in (self.secrets, self.schema):
            path.mkdir(parents=True)
        self.write_secrets(stack.admin_password)

    def as_root(self, *command: str) -> None:
        folder = self.secrets.parent
        docker("run", "--rm", "--user", "0", "--volume", f"{folder}:/folder", self.image, *command)

    def write_secrets(self, password: str, code: str = CODE) -> None:
        texts = {"DATABASE_ADMIN_PASSWORD": password, "SELF_HOST_FIRST_INVITE_CODE": code}
        script = "".join(f"printf %s {text} > /folder/secrets/{name};" for name, text in texts.items())
        self.as_root(
            "sh", "-c", f"rm -f /folder/secrets/*; {script} chmod 0400 /folder/secrets/*; chown -R 1000 /folder/*"
        )

    def run(self, user: str = "1000:1000", **environment: str) -> subprocess.CompletedProcess:
        settings = {"DATABASE_ADMIN_EMAIL": ADMIN, "CMS_SETUP_SOURCE": self.image, **environment}
        name = f"{self.stack.name}-own"
        try:
            return docker(
                *("run", "--rm", "--name", name, "--network", self.stack.name, "--user", user),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--read-only", "--tmpfs", "/tmp"),
                *("--volume", f"{self.secrets}:/run/secrets:ro", "--volume", f"{BIN}:/openmates:ro"),
                *("--volume", f"{self.schema}:/cms-schema", "--entrypoint", "python3"),
                *(part for pair in settings.items() for part in ("--env", "=".join(pair))),
                *(self.image, "/openmates/cms-setup.py", "python", "setup_schemas.py"),
                check=False,
                timeout=400,
            )
        finally:
            docker("rm", "--force", "--volumes", name, check=False)

    def works(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    def fails(self, user: str = "1000:1000", **environment: str) -> str:
        done = self.run(user, **environment)
        assert done.returncode == 1, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stderr.split("cms-setup: failed: ")[1]

    def expected(self) -> dict:
        return json.loads((self.schema / "expected.json").read_text())

    def admin(self) -> Api:
        return Api(self.stack.url).log_in(ADMIN, self.stack.admin_password)

    def forget(self) -> None:
        """Directus as it is before the first pass."""
        admin = self.admin()
        there = {item["collection"] for item in admin.call("GET", "/collections")}
        for name in (
            "articles_tags",
            "articles",
            *sorted(COLLECTIONS - {"articles_tags", "articles", "directus_users"}),
        ):
            if name in there:
                admin.call("DELETE", f"/collections/{name}")
        for field in ("vault_key_id", "signup_completed", "timezone"):
            admin.status("DELETE", f"/fields/directus_users/{field}")
        self.as_root("rm", "-f", "/folder/schema/expected.json")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[OwnSetup]:
    """A Directus that runs, and never had the collections."""
    stack = Stack(tmp_path_factory.mktemp("own-secrets"), f"openmates-directus-own-{worker_id}")
    try:
        stack.start_stores()
        done = stack.once("node", "cli.js", "bootstrap")
        assert done.returncode == 0, done.stdout + done.stderr
        stack.start_cms(PRESSURE_LIMITER_ENABLED="false")
        yield OwnSetup(stack, tmp_path_factory.mktemp("own"))
    finally:
        stack.remove()


@pytest.fixture
def own(started: OwnSetup) -> OwnSetup:
    started.forget()
    return started


def codes(own: OwnSetup) -> list[str]:
    return own.stack.sql("select code from invite_codes").split()


def test_what_the_first_pass_was_refused_the_second_repairs(own):
    output = own.works(SAMPLE_SETUP_REFUSE="articles=1")
    first = re.search("cms-setup: pass 1 ended with exit code 0.*", output)[0]
    assert "1 collection: articles" in first and "articles_tags" not in first
    assert "cms-setup: pass 2 ended with exit code 0" in output and "pass 3" not in output
    assert output.count("Processing schema file: pages.yml") == 1, "the second pass is about what is left"
    assert own.admin().call("GET", "/fields/articles/title")["field"] == "title"

    expected = own.expected()
    assert (expected["source"], set(expected["collections"])) == (own.image, COLLECTIONS)
    assert set(expected["collections"]["pages"]) == {"id", "status", "slug", "content"}
    assert "this version's program does not make them: chat_task_notes" in output

    again = own.works()
    assert "nothing to do" in again and "pass 1" not in again

    own.admin().call("DELETE", "/fields/pages/slug")
    repaired = own.works()
    assert "missing: 1 field: pages.slug" in repaired and "pass 1 ended" in repaired
    assert own.admin().call("GET", "/fields/pages/slug")["field"] == "slug"


def test_the_module_finds_missing_objects(own, run_module):
    own.works()
    connection = {"url": own.stack.url, "email": ADMIN, "password": own.stack.admin_password, "deadline": 60}

    def reconciled() -> dict:
        return run_module(directus_config.main, **connection, expected_file=str(own.schema / "expected.json"))

    whole = reconciled()
    assert not whole.get("failed") and not whole["changed"], whole
    admin = own.admin()
    admin.call("DELETE", "/fields/pages/slug")
    admin.call("DELETE", "/collections/chats")
    own.stack.sql("drop table tags cascade")  # its entry among the collections stays
    docker("restart", f"{own.stack.name}-cms")  # otherwise Directus does not detect changes of its tables
    wait_until(own.stack.answers, "Directus answers", 120)
    broken = reconciled()
    assert broken["incomplete"] and not broken["refused"]
    assert "lacks collections or fields of its set-up: chats, pages.slug, tags." in broken["msg"]
    for table in ("fields", "collections"):
        own.stack.sql(f"delete from directus_{table} where collection = 'tags'")
    docker("restart", f"{own.stack.name}-cms")
    wait_until(own.stack.answers, "Directus answers", 120)
    own.works()
    assert not reconciled().get("failed")
    own.as_root("rm", "/folder/schema/expected.json")
    assert reconciled()["incomplete"]


def test_a_changed_schema_is_applied(own):
    """Another digest stands for another image's files."""
    own.works()
    text = own.expected() | {"digest": "of another image"}
    own.as_root("sh", "-c", f"echo '{json.dumps(text)}' > /folder/schema/expected.json")
    assert "pass 1 ended" in own.works()
    assert "nothing to do" in own.works()


def test_a_refusal_that_lasts_fails_and_names_what_is_missing(own):
    # A busy machine may need more than one run until the refused collection is all that is missing.
    for _ in range(5):
        message = own.fails(SAMPLE_SETUP_REFUSE="articles=999", CMS_SETUP_TIMEOUT="45")
        assert "not done within 45 s (openmates_cms_setup_timeout)" in message and "Under pressure" in message
        if "Directus lacks 1 collection: " in message:
            break
    assert "Directus lacks 1 collection: articles " in message
    assert own.expected()["digest"] == "", "a run that failed is not taken for a finished one"


def test_the_invite_code_is_stored_and_not_printed(own):
    done = own.run()
    assert done.returncode == 0, done.stdout[-3000:]
    assert codes(own) == [CODE]
    assert "First Signup Invite Code: ********" in done.stdout
    for secret in (CODE, own.stack.admin_password):
        assert secret not in done.stdout + done.stderr

    own.write_secrets(own.stack.admin_password, "N3W0-C0DE-2026")
    try:
        assert "the former one is removed" in own.works()
        assert codes(own) == ["N3W0-C0DE-2026"]
    finally:
        own.write_secrets(own.stack.admin_password)
    own.stack.sql("delete from invite_codes")  # the state after a failed store
    assert "the first invite code was missing: stored" in own.works()
    assert codes(own) == [CODE]

    own.stack.sql("delete from invite_codes")  # the state after a sign-up with it
    own.stack.sql("update directus_users set vault_key_id = 'key'")
    assert "stored" not in own.works()
    assert codes(own) == []


def test_root_without_a_capability_cannot_read_the_secrets(own):
    message = own.fails(user="0:0")
    assert "DATABASE_ADMIN_PASSWORD cannot be read by user 0: Permission denied" in message


def test_a_login_that_is_refused_begins_no_pass(own):
    own.write_secrets("wrong-" + own.stack.admin_password)
    try:
        done = own.run()
        assert done.returncode == 1
        assert "pass 1" not in done.stdout
        assert f"refuses the login of {ADMIN}" in done.stderr and "run site.yml again" in done.stderr
    finally:
        own.write_secrets(own.stack.admin_password)


def test_a_session_that_expires_in_the_middle_of_a_pass(own):
    """The program's token expires during its pass; the wrapper renews its own."""
    own.stack.start_cms(PRESSURE_LIMITER_ENABLED="false", ACCESS_TOKEN_TTL="6s")
    output = own.works()
    first = re.search("cms-setup: pass 1 ended with exit code 0.*", output)[0]
    assert "collection" in first
    assert "TOKEN_EXPIRED" in output and "Success: False" in output
    assert "cms-setup: all 11 collections" in output
    assert codes(own) == [CODE]
