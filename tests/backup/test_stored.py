"""A backup of a real database, cache and Vault, stored by the genuine restic."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import sqlite3
import subprocess
import tarfile
import time
from pathlib import Path

import hvac
import pytest
from conftest import Backup
from openmates_backup import files, postgres
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases

pytestmark = pytest.mark.drill


def manifest(backup: Backup, snapshot: str = "latest") -> dict:
    return json.loads(backup.restic().dump(snapshot, str(backup.config.staging / "manifest.json")))


@pytest.fixture
def restored(backup: Backup, tmp_path: Path) -> Path:
    """The files of one backup."""
    backup.make()
    target = tmp_path / "restored"
    backup.restic().call("restore", "latest", f"--target={target}")
    return target


def test_everything_that_holds_state_is_in_the_snapshot(backup: Backup, restored: Path) -> None:
    config, found = backup.config, manifest(backup)
    for path in (config.stack, config.volume_path("cms-uploads")):
        for file, _ in files.regular(path):
            assert (restored / file.relative_to("/")).read_bytes() == file.read_bytes()
    assert not (restored / config.volume_path("promtail-data").relative_to("/")).exists()
    assert not list(restored.rglob("postmaster.pid")), "the files of a running database are of no use"
    database = found["databases"]["cms-database"]
    described = [*database["databases"].values(), database["globals"], found["vault"], found["caches"]["cache"]]
    for one in described:
        file = restored / one["file"].lstrip("/")
        assert (one["bytes"], one["sha256"]) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert not config.staging.exists(), "it holds secrets"
    uploads = {one["path"]: one["bytes"] for one in found["volumes"]["cms-uploads"]["sample"]}
    assert uploads["cat.jpg"] == 5002
    assert {name: volume["rule"] for name, volume in found["volumes"].items()} == {
        name: volume["rule"] for name, volume in config.volumes.items()
    }


def test_the_dump_restores_to_tables_with_the_same_digests(backup: Backup, restored: Path) -> None:
    """Into a database with other settings, in another order of the rows."""
    found = manifest(backup)["databases"]["cms-database"]["databases"]["directus"]
    databases = Databases(Containers(backup.config.project), "cms-database")
    backup.server.sql("create database again")
    backup.server.sql("alter database again set timezone to 'Asia/Tokyo'")
    backup.server.sql("alter database again set datestyle to 'German'")
    try:
        restore = [*databases.program("pg_restore"), "--dbname=again", "--exit-on-error"]
        with (restored / found["file"].lstrip("/")).open("rb") as dump:
            subprocess.run(restore, stdin=dump, check=True, capture_output=True)
        with postgres.session(databases.program("psql"), "again") as opened:
            opened.ask("create table public.moved as select * from public.customers order by id desc")
            opened.ask("drop table public.customers")
            opened.ask("alter table public.moved rename to customers")
            assert postgres.digests(opened) == found["tables"]
            opened.ask("update public.customers set paid = paid + 0.01 where id = 77")
            changed = postgres.digests(opened)
        assert {name for name in changed if changed[name] != found["tables"][name]} == {"public.customers"}
    finally:
        backup.server.sql("drop database again")


def test_the_cache_writes_a_snapshot_for_it(backup: Backup) -> None:
    backup.server.cache("set", "order:of-this-moment", "pending")
    backup.make()
    found = manifest(backup)["caches"]["cache"]
    assert found["keys"] == int(backup.server.cache("dbsize"))
    assert "order:of-this-moment" in backup.restic().dump("latest", found["file"])
    assert found["persisted_as"] == "dump.rdb"


def test_vaults_snapshot_and_canary_are_this_vaults(backup: Backup, restored: Path) -> None:
    found = manifest(backup)["vault"]
    with tarfile.open(restored / found["file"].lstrip("/")) as archive:
        assert json.load(archive.extractfile("meta.json"))["Index"] == found["index"]
    root = hvac.Client(backup.server.bao.url, token=backup.server.root_token)
    answer = root.secrets.transit.decrypt_data(found["canary"]["key"], found["canary"]["ciphertext"])
    text = base64.b64decode(answer["data"]["plaintext"])
    assert hashlib.sha256(text).hexdigest() == found["canary"]["sha256"]
    assert found["cluster_id"] == root.sys.read_health_status(method="GET")["cluster_id"]


def test_the_login_of_a_backup_may_decrypt_and_read_nothing(backup: Backup) -> None:
    backup.make()
    client = hvac.Client(backup.server.bao.url)
    client.token = client.auth.approle.login(**backup.server.vault_login)["auth"]["client_token"]
    for attempt in (
        lambda: client.secrets.transit.decrypt_data("openmates-canary", "vault:v1:AAAA"),
        lambda: client.secrets.transit.encrypt_data("users", "AAAA"),
        lambda: client.sys.list_policies(),
        lambda: client.auth.token.lookup_self(),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()


def test_the_result_is_recorded_with_metrics_and_tags(backup: Backup) -> None:
    begun = time.time()
    result = backup.make()
    assert result["success"] and result["problem"] == "" and result["snapshots"] == 1
    assert backup.last() == result
    found = backup.metrics()
    assert begun <= found["last_success_timestamp_seconds"] <= found["last_run_timestamp_seconds"] <= time.time()
    assert (found["last_run_success"], found["snapshots"]) == (1, 1)
    assert found["last_run_added_bytes"] > 0 and found["repository_size_bytes"] > 0
    [snapshot] = backup.restic().snapshots()
    assert (snapshot["hostname"], set(snapshot["tags"])) == ("server1", {"openmates", "env=prod"})


def test_old_snapshots_go_and_those_of_other_hosts_stay(backup: Backup) -> None:
    backup.make()
    opened = backup.restic()
    for host, tag, day in (
        *(("server1", "openmates,env=prod", f"2026-10-{day:02}") for day in range(1, 20)),
        ("server2", "openmates,env=prod", "2020-01-01"),
        ("server1", "openmates,env=dev", "2020-01-01"),
        ("server1", "own", "2020-01-01"),
    ):
        opened.call("backup", f"--host={host}", f"--tag={tag}", f"--time={day} 03:30:00", str(backup.config.stack))
    result = backup.make(keep={"daily": 3, "weekly": 0, "monthly": 0})
    assert result["snapshots"] == len(opened.snapshots()) == 3
    everything = opened.json("snapshots")
    assert len(everything) == 3 + 3, "others are not this host's to remove"


def test_no_secret_is_in_an_argument_a_file_or_the_environment(backup: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program that is started writes its arguments and its environment down."""
    spy = backup.folder.parent / "spy"
    spy.mkdir()
    for program in ("restic", "docker"):
        file = spy / program
        file.write_text(
            '#!/bin/sh\n{ tr "\\0" "\\n" < /proc/$$/cmdline; tr "\\0" "\\n" < /proc/$$/environ; } >> ' + f"{spy}/seen\n"
            f'PATH="${{PATH#*:}}"; exec {program} "$@"\n'
        )
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy}:{os.environ['PATH']}")
    backup.make()
    seen = (spy / "seen").read_text()
    assert "check" in seen and "pg_dump" in seen
    secrets = [backup.secrets["password"], backup.server.password, backup.server.vault_login["secret_id"]]
    assert [secret for secret in secrets if secret in seen] == []
    kept = [path for path, _ in files.regular(backup.config.state)]
    assert [path for path in kept if any(secret.encode() in path.read_bytes() for secret in secrets)] == []


def test_a_sqlite_database_is_copied_while_it_is_written_to(backup: Backup, tmp_path: Path) -> None:
    folder = backup.server.volume("grafana-data")
    folder.mkdir(exist_ok=True, parents=True)
    live = sqlite3.connect(folder / "grafana.db", isolation_level=None)
    live.execute("drop table if exists boards")
    live.execute("create table boards (name text)")
    live.execute("insert into boards values ('kept')")
    volumes = backup.config.volumes | {
        "grafana-data": {"service": "grafana", "rule": "files", "sqlite": ["grafana.db"]}
    }
    try:
        live.execute("begin")
        live.execute("insert into boards values ('not yet')")
        backup.config = dataclasses.replace(backup.config, volumes=volumes)
        backup.make()
    finally:
        live.close()
    copy = manifest(backup)["volumes"]["grafana-data"]["sqlite"]["grafana.db"]["file"]
    backup.restic().call("restore", "latest", f"--target={tmp_path / 'again'}")
    again = tmp_path / "again"
    assert not (again / str(folder / "grafana.db").lstrip("/")).exists()
    found = sqlite3.connect(again / copy.lstrip("/")).execute("select name from boards").fetchall()
    assert found == [("kept",)]
