"""A server of the installer is taken over: what is found, what stays as it was, what arrives, and four sabotages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from installer_server import KEYS, SECRETS, USERS, InstallerServer
from new_server import New
from openmates_backup.config import Config
from openmates_backup.problem import Problem
from openmates_import import export, installer, server

SILENT = str


def storage(old: InstallerServer) -> dict[str, str]:
    """The digests of everything that the old server keeps, but of what Vault itself notes all the time."""
    found = {}
    for path in sorted((old.folder / "data").rglob("*")):
        name = str(path.relative_to(old.folder / "data"))
        if path.is_file() and not name.startswith(("vault/core/", "vault/sys/")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def rows(text: str) -> list[str]:
    return sorted(text.split("\n"))


def send(places: Path) -> None:
    """As host_transfer does."""
    for path in (places / "staging/export").iterdir():
        shutil.copy(path, places / "staging/received")


@pytest.fixture
def here(new: New, places: Path, monkeypatch: pytest.MonkeyPatch) -> server.Server:
    config = dataclasses.replace(server.config_of(str(places / "docker")), project=new.project, state=places / "state")
    (places / "docker").mkdir()
    (places / "state").mkdir()
    for name in ("cms-uploads", "api-logs"):
        config.volume_path(name).mkdir(parents=True)
    assert isinstance(config, Config)
    return server.Server(config, "directus")


def test_everything_arrives_and_nothing_of_the_old_server_is_changed(old, new, here, places) -> None:
    looked = installer.look(old.project)
    assert looked["problems"] == []
    assert (looked["database"]["major"], looked["database"]["users"]) == (13, USERS)
    assert set(looked["volumes"]) == {"cms-uploads", "api-logs"}
    assert looked["environment"] == ["DATABASE_NAME", "DATABASE_PASSWORD", "SECRET__STRIPE__API_KEY", "SIGNUP_LIMIT"]
    assert "canary" not in json.dumps(looked)
    assert here.look()["database"]["users"] == 0
    new.psql("insert into directus_users values (3, 'someone@example.org', null)")
    assert here.look()["database"]["users"] == 1

    before, table = storage(old), "select * from chats order by id"
    there = installer.Installer(old.project)
    tried = export.rehearse(there, SILENT)
    assert (tried["keys"], tried["secrets"], tried["unreadable"]) == (USERS + len(KEYS), len(SECRETS), 0)
    assert old.running() >= {"api", "cms", "cache", "task-worker"}, "it serves meanwhile"

    stopped = there.stop()
    assert old.running() == {"cms-database", "vault"}
    assert set(stopped) == {old.name(service) for service in ("api", "cms", "cache", "task-worker")}
    manifest = json.loads(json.dumps(export.export_all(installer.Installer(old.project), SILENT)))
    assert manifest["vault"]["samples"] == 20
    assert storage(old) == before
    assert old.vault("read", "-field=exportable", "transit/keys/email-hmac-key").strip() == "false"
    assert not (places / "secret/vault").exists() and not (places / "staging/vault").exists()

    here.begin("old1")
    new.cache("SET", "of-the-new-server", "1")
    (here.config.volume_path("cms-uploads") / "of the new server").write_text("goes")
    send(places)
    found = here.put(manifest, SILENT)
    assert found["database"]["tables"] == 4
    assert rows(new.psql(table)) == rows(old.psql(table))
    assert "0" in new.psql("select count(*) from pg_class where relname = 'of_the_new_server'")
    assert new.cache("DBSIZE").strip() == "0"
    uploads = here.config.volume_path("cms-uploads")
    assert sorted(path.name for path in uploads.rglob("*")) == ["a folder", "cat.jpg"]
    assert (here.config.volume_path("api-logs") / "audit-compliance.log").read_text() == "of the old server\n"
    assert here.put(manifest, SILENT) == found, "it can be repeated"

    here.end("old1", rehearsal=False)
    export.clean()
    assert here.recorded()["record"]["state"] == "imported"
    assert [path for name in ("*.dump", "*.jsonl", "*.tar") for path in places.rglob(name)] == []
    for name in stopped:  # the way back
        old.docker_start(name)
    assert old.running() >= {"api", "cms", "cache", "task-worker"}


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (
            lambda export_, _: (export_ / "database.dump").write_bytes(b"cut short"),
            "is not what the old server has sent",
        ),
        (lambda _, manifest: manifest["database"]["tables"]["public.chats"].update(rows=1), "was not replaced"),
        (lambda _, manifest: manifest["database"]["tables"]["public.chats"].update(digest="1.1"), "other content"),
        (lambda _, manifest: manifest["volumes"]["cms-uploads"].update(files=9), "are not those of the old server"),
    ],
    ids=["truncated dump", "missing rows", "changed row", "missing file"],
)
def test_what_is_not_the_same_is_not_taken_over(old, new, here, places, sabotage, words) -> None:
    manifest = export.export_all(installer.Installer(old.project), SILENT)
    before = new.psql("select count(*) from directus_users")
    here.begin("old1")
    send(places)
    sabotage(places / "staging/received", manifest)
    with pytest.raises(Problem, match=words):
        here.put(manifest, SILENT)
    assert new.psql("select count(*) from directus_users") == before


def test_a_wrong_unseal_key_stops_it_before_anything(old, places) -> None:
    key = old.folder / "data/vault-setup/unseal.key"
    right = key.read_text()
    key.write_text("0" * 64)
    try:
        with pytest.raises(Problem, match=r"unseal\.key does not open it"):
            export.rehearse(installer.Installer(old.project), SILENT)
        key.unlink()
        assert "The unseal key of its Vault cannot be read" in installer.look(old.project)["problems"][0]
    finally:
        key.write_text(right)
