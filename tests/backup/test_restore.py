"""A restore of a real database, cache and files from the genuine restic; and what it refuses, before any change."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import sqlite3
import threading
from pathlib import Path

import hvac
import pytest
from conftest import Backup, Server
from openmates_backup import postgres, postgres_restore, restore_choice, restore_files, restore_target, room, state
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases
from openmates_backup.problem import Problem
from openmates_backup.restore import Request, Restore
from real import docker, wait_until

REPLACE = Request(replace=True)
OTHER = 1234  # a user who is no one else's


def restore(backup: Backup, **changes: object) -> Restore:
    backup.provide()
    return Restore(dataclasses.replace(backup.config, **changes), lambda _: None)


def contents(backup: Backup) -> dict:
    """What a restore has to bring back."""
    databases = Databases(Containers(backup.config.project), "cms-database")
    with postgres.session(databases.program("psql"), "directus") as opened:
        tables = postgres.digests(opened)
    folder = backup.server.volume("cms-uploads")
    paths = [folder, *sorted(folder.rglob("*"))]
    files = {
        str(path): (path.stat().st_uid, path.stat().st_mode, path.is_file() and path.read_bytes()) for path in paths
    }
    return {"tables": tables, "files": files, "order": backup.server.cache("get", "order:1")}


def start_cache(server: Server) -> None:
    docker("start", f"{server.project}-cache-1")
    wait_until(lambda: server.cache("ping", check=False) == "PONG", "the cache is ready")


def spoil(server: Server) -> None:
    """Change all of it."""
    server.sql('drop table customers; create table new_one (x int); delete from "odd.schema"."A table"')
    uploads = server.volume("cms-uploads")
    (uploads / "cat.jpg").write_bytes(b"")
    (uploads / "later.jpg").write_text("uploaded after the backup")
    os.chown(uploads, 0, 0)
    uploads.chmod(0o700)
    server.cache("set", "order:1", "shipped")
    server.cache("set", "order:2", "made after the backup")


def as_operator(backup: Backup, request: Request = REPLACE) -> dict:
    """All steps, as restore.yml takes them, without Vault's, which is the role vault's."""
    steps = restore(backup)
    plan = steps.begin(request)
    if not plan["proven"]:
        if "vault" in [part["name"] for part in plan["parts"]]:
            steps.note_vault(1)
        steps.put()
    start_cache(backup.server)
    result = steps.prove()
    steps.end()
    return result


@pytest.fixture
def made(backup: Backup) -> Backup:
    """A server with a backup, whose services have a token that may decrypt."""
    server, uploads = backup.server, backup.server.volume("cms-uploads")
    (uploads / "later.jpg").unlink(missing_ok=True)
    (uploads / "folder").mkdir(exist_ok=True)
    (uploads / "folder/dog.jpg").write_bytes(b"dog")
    os.chown(uploads / "folder/dog.jpg", OTHER, OTHER)
    os.chown(uploads, OTHER, 0)
    uploads.chmod(0o2750)
    server.cache("set", "order:1", "pending")
    root = hvac.Client(server.bao.url, token=server.root_token)
    root.sys.create_or_update_policy("decrypts", 'path "transit/decrypt/*" { capabilities = ["update"] }')
    token = root.auth.token.create(policies=["decrypts"], no_default_policy=True)["auth"]["client_token"]
    file = backup.config.stack / "secrets/vault-data/api.token"
    file.parent.mkdir(exist_ok=True)
    file.write_text(token)
    backup.make()
    return backup


def test_everything_is_as_it_was(made: Backup) -> None:
    before = contents(made)
    spoil(made.server)
    (made.config.stack / "secrets/PASSWORD").write_text("the inventory's")
    result = as_operator(made)
    (made.config.stack / "secrets/PASSWORD").write_text("kept")
    assert contents(made) == before
    parts = {part["name"]: part for part in result["parts"]}
    assert list(parts) == ["vault", "cms-database", "cache", "cms-uploads"]
    assert parts["cms-database"]["rows"] == 503 and parts["cms-uploads"]["files"] == 2
    assert parts["cache"]["keys_now"] == parts["cache"]["keys"] == 1
    assert all(part["time"].endswith("Z") and part["seconds"] >= 0 for part in parts.values())
    assert result["stack_differs"] == ["secrets/PASSWORD"], "it is named, not replaced"
    assert not made.config.restoring.exists(), "the copies are secret"
    assert made.make()["success"]


def test_one_part_leaves_the_others(made: Backup) -> None:
    before = contents(made)
    spoil(made.server)
    result = as_operator(made, Request(only=("cms-database",), replace=True))
    assert [part["name"] for part in result["parts"]] == ["cms-database"]
    after = contents(made)
    assert after["tables"] == before["tables"]
    assert after["order"] == "shipped" and after["files"] != before["files"]
    as_operator(made)


def test_what_is_restored_stops_its_users_only(made: Backup) -> None:
    server = made.server
    for service, volume in {"cms": "cms-uploads", "grafana": "grafana-data", "app-web": ""}.items():
        name = f"{server.project}-{service}-1"
        labels = {"project": server.project, "service": service}
        mount = [f"--volume={server.project}-{volume}:/data"] if volume else []
        docker(
            *("run", "--detach", f"--name={name}", "--entrypoint=sleep", *mount),
            *(f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()),
            *(docker("inspect", "--format={{.Image}}", f"{server.project}-cache-1").stdout.strip(), "600"),
        )
    try:
        for only, stops in {(): ["app-web", "cms"], ("cache",): ["app-web", "cms"], ("cms-uploads",): ["cms"]}.items():
            assert restore(made).plan(Request(only=only, replace=True))["stops"] == stops
    finally:
        names = [f"{server.project}-{service}-1" for service in ("cms", "grafana", "app-web")]
        docker("rm", "--force", *names)
        docker("volume", "rm", *(f"{server.project}-{volume}" for volume in ("cms-uploads", "grafana-data")))


def refused(backup: Backup, words: str, request: Request = REPLACE, **changes: object) -> str:
    """The reason of a refusal, which changes nothing."""
    before = contents(backup)
    for step in ("plan", "begin"):
        with pytest.raises(Problem) as problem:
            getattr(restore(backup, **changes), step)(request)
        assert words in str(problem.value)
    assert contents(backup) == before and not backup.config.restore_note.exists()
    assert backup.secrets["password"] not in str(problem.value)
    return str(problem.value)


def test_data_is_not_replaced_without_the_word(made: Backup) -> None:
    reason = refused(made, "-e restore_replace=server1", Request())
    assert "cms-database, cache, cms-uploads" in reason and "vault" in reason


def test_an_unknown_snapshot_and_an_unknown_part(made: Backup) -> None:
    refused(made, "has no snapshot 0123456789", Request("0123456789", replace=True))
    refused(made, "has no snapshot abc", Request("abc", replace=True))
    refused(made, "no part of this snapshot: cms-databse", Request(only=("cms-databse",), replace=True))


def test_a_wrong_password_and_a_missing_repository(made: Backup) -> None:
    right = made.secrets["password"]
    made.secrets["password"] = "not-the-password"
    refused(made, "does not open the repository")
    made.secrets["password"] = right
    refused(made, "There is no repository at", repository=str(made.folder / "elsewhere"))


def test_a_snapshot_of_another_host_or_environment_needs_the_word(made: Backup) -> None:
    [snapshot] = made.restic().snapshots()
    for change in ({"host": "server2"}, {"environment": "dev"}):
        refused(made, "-e restore_from=server1", Request(snapshot["short_id"], replace=True), **change)
        assert "server1 (prod)" in refused(made, "has no snapshot of", **change)
        for wanted in ("latest", snapshot["id"]):
            plan = restore(made, **change).plan(Request(wanted, origin="server1", replace=True))
            assert (plan["snapshot"], plan["host"], plan["environment"]) == (snapshot["id"], "server1", "prod")
    refused(made, "restore_from names server3", Request(snapshot["id"], origin="server3", replace=True))


def test_another_major_of_postgres(made: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_target.postgres_restore, "major", lambda _: 18)
    assert "openmates_services.cms-database.image" in refused(made, "and this server's is 18")


def test_a_disk_without_room(made: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SPARE", 1 << 50)
    refused(made, "MiB free, and the restore needs")


def altered(backup: Backup, change: dict) -> None:
    """A snapshot whose manifest says something else, the latest one."""
    staging = backup.config.staging
    manifest = json.loads(backup.restic().dump("latest", str(staging / "manifest.json")))
    staging.mkdir()
    for part in (*manifest["databases"]["cms-database"]["databases"].values(), manifest["vault"]):
        path = Path(part["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        backup.restic().save("latest", str(path), path)
    for part in (manifest["databases"]["cms-database"]["globals"], manifest["caches"]["cache"]):
        path = Path(part["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        backup.restic().save("latest", str(path), path)
    (staging / "manifest.json").write_text(json.dumps(manifest | change))
    paths = (staging, backup.server.volume("cms-uploads"))
    backup.restic().call("backup", "--host=server1", "--tag=openmates,env=prod", *map(str, paths))


def test_a_newer_format(made: Backup) -> None:
    altered(made, {"format": 2})
    refused(made, "has the format 2")


def manifest_of(backup: Backup) -> dict:
    with restore(backup).opened() as opened:
        snapshot = restore_choice.choose(opened, backup.config, "latest", "")
        return restore_choice.manifest_of(opened, backup.config, snapshot)


def test_a_dump_that_is_not_the_manifests(made: Backup) -> None:
    databases = manifest_of(made)["databases"]
    databases["cms-database"]["databases"]["directus"]["sha256"] = "0" * 64
    altered(made, {"databases": databases})
    before = contents(made)
    with pytest.raises(Problem, match=r"directus\.dump in snapshot \w+ is not what its manifest says"):
        restore(made).begin(REPLACE)
    assert contents(made) == before and not made.config.restore_note.exists()


def test_a_database_with_other_rows_does_not_replace_the_present_one(made: Backup) -> None:
    databases = manifest_of(made)["databases"]
    databases["cms-database"]["databases"]["directus"]["tables"]["public.customers"]["rows"] = 501
    altered(made, {"databases": databases})
    before = contents(made)["tables"]
    steps = restore(made)
    steps.begin(Request(only=("cms-database",), replace=True))
    with pytest.raises(Problem, match=r"public\.customers \(500 rows instead of 501\)"):
        steps.put()
    assert contents(made)["tables"] == before
    assert "openmates_restoring" not in made.server.sql("select datname from pg_database")


def test_a_file_that_is_not_the_samples(made: Backup) -> None:
    volumes = manifest_of(made)["volumes"]
    for one in volumes["cms-uploads"]["sample"]:
        one["sha256"] = "0" * 64
    volumes["cms-uploads"]["time"] = "2100-01-01T00:00:00Z"  # so that no file was changed since
    altered(made, {"volumes": volumes})
    steps = restore(made)
    steps.begin(Request(only=("cms-uploads",), replace=True))
    with pytest.raises(Problem, match=r"The volume cms-uploads is not what the manifest says: cat\.jpg"):
        steps.put()


def test_a_proof_that_gives_way_is_waited_for(made: Backup) -> None:
    with (made.config.directory / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Problem, match="Another backup, proof or restore is under way"):
            restore(made, give_way=0.1).plan(REPLACE)
        threading.Timer(1, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        assert restore(made).plan(REPLACE)["parts"]


def test_no_backup_and_no_smaller_restore_while_one_has_not_ended(made: Backup) -> None:
    steps = restore(made)
    steps.begin(REPLACE)
    with pytest.raises(Problem, match=r"A restore of snapshot .* has not ended, so nothing is backed up"):
        made.make()
    with pytest.raises(Problem, match="this one leaves out vault, cms-database, cache"):
        steps.plan(Request(only=("cms-uploads",), replace=True))
    steps.note.write_text(json.dumps(state.read(steps.note) | {"parts": ["cms-uploads"]}))
    with pytest.raises(Problem, match=r"holds data that would be replaced: vault, cms-database, cache\. If"):
        steps.plan(Request())  # what was begun with that word, or without, was less
    steps.begin(REPLACE)
    with pytest.raises(Problem, match="not proven"):
        steps.end()
    with pytest.raises(Problem, match="These parts were not restored: vault, cms-database, cache, cms-uploads"):
        steps.prove()


class Killed(BaseException):
    """As by SIGKILL: nothing of the program runs afterwards."""


def between_drop_and_rename(databases: Databases, *statements: str) -> None:
    genuine_administer(databases, statements[0])
    if "rename" in statements[-1]:
        raise Killed
    genuine_administer(databases, *statements[1:])


def killed(*_: object) -> None:
    raise Killed


genuine_administer = postgres_restore.administer
MOMENTS = {
    "before the dump is restored": (postgres_restore, "restored", killed),
    "when the present database is gone": (postgres_restore, "administer", between_drop_and_rename),
    "before the cache has stopped": (restore_target.Target, "stop", killed),
    "when the cache has no snapshot": (restore_files, "put_file", killed),
    "when a volume has not its owner yet": (restore_files, "take_owner", killed),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_repeated_without_the_word(made: Backup, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The second attempt is the same command as the first on an empty server, and takes the snapshot of the first."""
    before = contents(made)
    spoil(made.server)
    steps = restore(made)
    with monkeypatch.context() as patched:
        patched.setattr(Restore, "_held", lambda *_: ())  # as on an empty server
        first = steps.begin(Request())["snapshot"]
    steps.note_vault(1)
    with monkeypatch.context() as patched:
        patched.setattr(*MOMENTS[moment])
        with pytest.raises(Killed):
            steps.put()
    made.restic().call("backup", "--host=server1", "--tag=openmates,env=prod", str(made.config.stack))
    result = as_operator(made, Request())
    assert result["snapshot"] == first and contents(made) == before


def test_a_restore_that_is_proven_is_not_done_again(made: Backup) -> None:
    """Killed when clients are let in again: what they have written stays."""
    steps = restore(made)
    steps.begin(REPLACE)
    steps.note_vault(1)
    steps.put()
    start_cache(made.server)
    steps.prove()
    made.server.cache("set", "order:1", "shipped")
    as_operator(made)
    assert made.server.cache("get", "order:1") == "shipped"


def test_a_vault_of_other_keys_is_not_proven(made: Backup) -> None:
    steps = restore(made)
    steps.begin(Request(only=("vault",), replace=True))
    steps.note_vault(1)
    root = hvac.Client(made.server.bao.url, token=made.server.root_token)
    root.secrets.transit.update_key_configuration("openmates-canary", deletion_allowed=True)
    root.secrets.transit.delete_key("openmates-canary")
    with pytest.raises(Problem, match="does not decrypt the snapshot's canary"):
        steps.prove()
    assert made.config.restore_note.exists()


def test_a_database_of_sqlite_comes_from_its_copy(made: Backup) -> None:
    folder = made.server.volume("grafana-data")
    folder.mkdir(exist_ok=True, parents=True)
    os.chown(folder, 472, 0)
    with sqlite3.connect(folder / "grafana.db") as live:
        live.execute("create table if not exists boards (name text)")
        live.execute("insert into boards values ('kept')")
    volumes = made.config.volumes | {"grafana-data": {"service": "grafana", "rule": "files", "sqlite": ["grafana.db"]}}
    made.config = dataclasses.replace(made.config, volumes=volumes)
    made.make()
    with sqlite3.connect(folder / "grafana.db") as live:
        live.execute("delete from boards")
    (folder / "grafana.db-wal").write_bytes(b"of the database that is replaced")
    as_operator(made, Request(only=("grafana-data",), replace=True))
    assert [path.name for path in folder.iterdir()] == ["grafana.db"]
    assert (folder / "grafana.db").stat().st_uid == 472
    assert sqlite3.connect(folder / "grafana.db").execute("select name from boards").fetchall() == [("kept",)]
