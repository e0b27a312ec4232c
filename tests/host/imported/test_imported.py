"""A server of OpenMates' own installer is taken over by import.yml: a dry run, a rehearsal, the import, once more.

The old server is this machine's Docker engine (tests/importing/installer_server.py), with a database of Directus that
has other accounts than the new one; the new server is the host under test, provisioned and without data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from drilled import Drill

from lab import ROOT, recap

sys.path.insert(0, str(ROOT / "tests/importing"))
from installer_server import InstallerServer, context_of

PSQL = "docker exec -i openmates-cms-database-1 psql -U directus -qAtv ON_ERROR_STOP=1"
UPLOAD, LOG = "data/uploads/a folder/cat.jpg", "data/logs/audit-compliance.log"
VOLUMES = "/var/lib/docker/volumes"
#: Settings of the session of a later version, and words of its psql.
LATER = ("SET transaction_timeout", "\\restrict", "\\unrestrict")
ROWS = "select count(*), md5(string_agg(t::text, chr(10) order by t::text)) from (select {columns} from {table}) t"
CHATS = ROWS.format(columns="id, hashed_user_id, encrypted_title", table="chats")
USERS = ROWS.format(columns="id, email, vault_key_id, encrypted_email_address", table="directus_users")
CLIENTS = " where vault_key_id is not null"


class Installed(InstallerServer):
    """Its database is one of Directus, with the schema of OpenMates' collections."""

    def __init__(self, folder: Path, dump: str) -> None:
        super().__init__(folder, "installer")
        self.dump = "\n".join(line for line in dump.splitlines() if not line.startswith(LATER))

    def fill(self) -> None:
        self.psql(self.dump)
        self.psql(
            "set search_path to public; delete from directus_users;"
            " insert into directus_users (id, email, password)"
            " values (gen_random_uuid(), 'boss@example.org', 'unknown');"
            " insert into chats (id, hashed_user_id, encrypted_title)"
            " select gen_random_uuid(), md5(i::text), repeat('é', 50) from generate_series(1, 500) i;"
        )
        for number, (key, ciphertext) in enumerate(self.client_keys.items()):
            self.psql(
                "insert into directus_users (id, email, vault_key_id, encrypted_email_address)"
                f" values (gen_random_uuid(), '{number}@example.org', '{key}', '{ciphertext}')"
            )


class Pair:
    """The new server, and what an operator calls for both."""

    def __init__(self, new: Drill, old: InstallerServer, inventory: Path) -> None:
        self.new, self.old, self.inventory = new, old, inventory

    def run(self, *arguments: str, good: bool = True) -> str:
        pair = ["-e", "import_from=old1", "-e", f"import_to={self.new.name}", "-i", str(self.inventory)]
        given = self.new.command("playbooks/import.yml", *pair, *arguments)
        at = given.index("--limit")
        return self.new.called([*given[:at], *given[at + 2 :]], good)

    def sql(self, text: str) -> str:
        return self.new.on_host(f'{PSQL} -c "{text}"').strip()

    def answer(self) -> int:
        """The status that a client gets."""
        curl = f"curl -sko /dev/null -w %{{http_code}} --resolve {self.domain}:443:127.0.0.1 https://{self.domain}/v1/health"
        return int(self.new.on_host(curl))

    @property
    def domain(self) -> str:
        return f"api.{self.new.name}.example.test"


@pytest.fixture(scope="module")
def pair(host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    new = Drill(host)
    dump = new.on_host("docker exec openmates-cms-database-1 pg_dump -U directus --no-owner --no-privileges directus")
    old = Installed(tmp_path_factory.mktemp("installer"), dump)
    inventory = tmp_path_factory.mktemp("inventory") / "installer.yml"
    inventory.write_text(yaml.safe_dump({"installer": {"hosts": {"old1": {"ansible_connection": "local"}}}}))
    old.remove()  # of a run that was killed
    try:
        old.folder.mkdir(exist_ok=True)
        old.start()
        yield Pair(new, old, inventory)
    finally:
        old.remove()


def test_a_dry_run_shows_the_plan_and_changes_nothing(pair):
    before, running = pair.sql(USERS), pair.old.running()
    shown = pair.run("--check", "-e", f"import_replace={pair.new.name}")
    assert "old1 is the Compose project installer" in shown and "PostgreSQL 13 with 31 users" in shown, shown[-3000:]
    assert pair.sql(USERS) == before and pair.old.running() == running and pair.answer() == 200


def test_a_rehearsal_lets_the_old_server_serve_and_keeps_clients_out(pair):
    running = pair.old.running()
    shown = pair.run("-e", "import_rehearsal=true", "-e", f"import_replace={pair.new.name}")
    assert "goes on serving" in shown and pair.old.running() == running
    assert pair.sql(CHATS) == pair.old.psql(CHATS).strip() and pair.answer() == 503


def test_everything_is_on_the_new_server_and_works_there(pair):
    pair.old.psql("insert into chats (id, hashed_user_id) values (gen_random_uuid(), 'since the rehearsal')")
    shown = pair.run()
    assert pair.old.running() == {"cms-database", "vault"}, "the old server does not write any more"
    assert pair.sql(CHATS) == pair.old.psql(CHATS).strip() and pair.sql(CHATS).startswith("501|")
    clients = USERS.replace(" from directus_users", f" from directus_users{CLIENTS}")
    assert pair.sql(clients) == pair.old.psql(clients).strip() and pair.sql(clients).startswith("30|")
    key, ciphertext = next(iter(pair.old.client_keys.items()))
    asked = {"ciphertext": ciphertext, "context": context_of(key)}
    status, _ = pair.new.vault("PUT", f"transit/decrypt/{key}", asked, pair.new.token())
    assert status == 200, "the api decrypts what was encrypted on the old server"
    _, secret = pair.new.vault("GET", "kv/data/providers/openai/azure", None, pair.new.token())
    assert secret["data"]["data"] == {"api_key": "canary-azure"}
    for path, volume in {UPLOAD: "cms-uploads", LOG: "api-logs"}.items():
        name = path.split("/", 2)[2]
        there = pair.new.host.file(f"{VOLUMES}/openmates-{volume}/_data/{name}").content
        assert there == (pair.old.folder / path).read_bytes(), path
    assert pair.answer() == 200, shown[-3000:]


def test_the_same_command_takes_over_nothing_more_and_site_yml_changes_nothing(pair):
    pair.sql("insert into chats (id, hashed_user_id) values (gen_random_uuid(), 'on the new server')")
    before = pair.sql(CHATS)
    pair.run()
    assert pair.sql(CHATS) == before
    shown = pair.new.called(pair.new.command("site.yml"), good=True)
    assert recap(shown)["changed"] == 0, shown[-3000:]


def test_the_old_server_serves_again_with_the_command_of_the_report(pair):
    stopped = yaml.safe_load(Path("/var/lib/openmates-import/stopped.json").read_text())["containers"]
    for container in stopped:
        pair.old.docker_start(container)
    assert {"api", "cms", "task-worker", "cache"} <= pair.old.running()
