"""What can go wrong with a backup: the reason is said and recorded, the metric fails, the last good backup stays."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest
from conftest import Backup
from openmates_backup import parts, repository, room, run
from openmates_backup.containers import Containers
from openmates_backup.postgres import Databases
from openmates_backup.problem import Problem
from openmates_backup.vault import checked
from ports import free_port
from real import wait_until


@pytest.fixture
def good(backup: Backup) -> Backup:
    """A server with a good backup."""
    backup.make()
    return backup


def fails(backup: Backup, words: str, **changes: object) -> str:
    """The reason of a backup that fails with these words in it."""
    before = {snapshot["id"] for snapshot in backup.restic().snapshots()} if backup.last()["success"] else set()
    success = backup.last()["last_success"]
    with pytest.raises(Problem) as problem:
        backup.make(**changes)
    assert words in str(problem.value)
    last, metrics = backup.last(), backup.metrics()
    assert (last["success"], last["problem"]) == (False, str(problem.value))
    assert metrics["last_run_success"] == 0 and metrics["last_success_timestamp_seconds"] == success["seconds"]
    assert last["last_success"] == success and success["snapshot"] in before
    assert not backup.config.staging.exists()
    assert backup.secrets["password"] not in str(problem.value)
    return str(problem.value)


@pytest.mark.drill
def test_a_wrong_password(good: Backup) -> None:
    right = good.secrets["password"]
    before = good.last()
    good.secrets["password"] = "not-the-password"
    with pytest.raises(Problem, match=r"does not open the repository .* openmates_backup_password"):
        good.make()
    assert not good.last()["success"] and good.last()["last_success"] == before["last_success"]
    good.secrets["password"] = right
    assert good.make()["success"]


@pytest.fixture
def held(good: Backup) -> Iterator[subprocess.Popen]:
    """A restic that holds an exclusive lock: it waits for a repository that does not answer."""
    opened = good.restic()
    process = subprocess.Popen(
        ["restic", "check", "--read-data", "--limit-download=1"], env=opened._environment, stdout=subprocess.PIPE
    )
    folder = Path(good.config.repository) / "locks"
    end = time.monotonic() + 20
    while not list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.005)
    assert list(folder.iterdir())
    os.kill(process.pid, 19)  # SIGSTOP: it lives, with its lock
    yield process
    process.kill()
    process.wait()


def test_the_lock_of_a_live_program(good: Backup, held: subprocess.Popen) -> None:
    assert "Run backup.yml when that program has ended" in fails(good, "is still locked by another program")
    held.kill()
    held.wait()
    assert good.make()["success"], "the lock of a program that is dead does not hinder"


def test_a_repository_that_cannot_be_reached(good: Backup) -> None:
    address = f"s3:http://127.0.0.1:{free_port()}/bucket"
    good.secrets |= {"s3_key_id": "name", "s3_secret": "a-key-for-s3"}
    with pytest.raises(Problem, match="openmates_backup_repository"):
        run.steps(dataclasses.replace(good.config, repository=address), {}, lambda _: None)


def test_a_repository_that_disappeared_is_not_made_again(good: Backup) -> None:
    """As with a disk that is not mounted."""
    repository = Path(good.config.repository)
    repository.rename(repository.with_name("elsewhere"))
    with pytest.raises(Problem, match=r"not there any more\. If it is on a disk of its own, mount that"):
        good.make()
    assert not repository.exists()
    repository.with_name("elsewhere").rename(repository)
    assert good.make()["snapshots"] == 2


def test_another_repository_in_its_place(good: Backup) -> None:
    Path(good.config.repository).rename(Path(good.config.repository).with_name("elsewhere"))
    good.restic().call("init")
    with pytest.raises(Problem, match="another repository than before"):
        good.make()


def largest_pack(backup: Backup) -> Path:
    packs = [path for path in (Path(backup.config.repository) / "data").rglob("*") if path.is_file()]
    return max(packs, key=lambda path: path.stat().st_size)


@pytest.mark.drill
def test_a_deleted_pack(good: Backup) -> None:
    pack = max(
        (Path(good.config.repository) / "data").rglob("*"), key=lambda path: path.stat().st_size * path.is_file()
    )
    pack.unlink()
    fails(good, "The check of the repository found it damaged")


def test_a_damaged_pack_is_found_within_a_month(good: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = max(
        (Path(good.config.repository) / "data").rglob("*"), key=lambda path: path.stat().st_size * path.is_file()
    )
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    monkeypatch.setattr(repository, "READ_ALL_IN", 1)
    fails(good, "found it damaged")


def test_a_snapshot_from_the_future(good: Backup) -> None:
    arguments = [f"--host={good.config.host}", f"--tag={good.config.tags}", "--time=2099-01-01 00:00:00"]
    good.restic().call("backup", *arguments, str(good.config.stack))
    assert "Nothing was removed" in fails(good, "dated in the future")


def test_a_full_disk_is_refused_before_anything_is_written(good: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SPARE", 1 << 50)
    fails(good, "MiB free, and a backup needs")


def test_a_disk_that_becomes_full(good: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    monkeypatch.setattr(parts.Parts, "check_space", lambda self: None)
    good.server.sql("create table filler as select i, md5(i::text) from generate_series(1, 20000) i")
    try:
        with pytest.raises(Problem, match=r"(?i)no space left"):
            good.make(state=small, metrics=tmp_path / "metrics")
        assert list((small / "backup").glob("staging/*")) == []
    finally:
        good.server.sql("drop table filler")
        subprocess.run(["umount", small], check=True)


def test_a_database_that_is_missing(good: Backup) -> None:
    fails(good, "has no database accounts", databases={"cms-database": ["directus", "accounts"]})


def test_a_service_that_does_not_run(good: Backup) -> None:
    fails(good, "No container of the service other-database runs", databases={"other-database": ["x"]})


@pytest.mark.drill
def test_a_dump_that_is_cut_short_or_lacks_a_table(good: Backup, tmp_path: Path) -> None:
    databases = Databases(Containers(good.config.project), "cms-database")
    dump = tmp_path / "x.dump"
    dump.write_bytes(subprocess.run([*databases.program("pg_dump"), "-Fc", "directus"], capture_output=True).stdout)
    tables = {"public.customers": ("public", "customers"), '"odd.schema"."A table"': ("odd.schema", "A table")}
    databases.check(dump, tables)
    with pytest.raises(Problem, match=r"lacks the data of public\.lost"):
        databases.check(dump, tables | {"public.lost": ("public", "lost")})
    content = dump.read_bytes()
    for length in (len(content) - 40, len(content) * 3 // 4, 100, 0):
        dump.write_bytes(content[:length])
        with pytest.raises(Problem):
            databases.check(dump, tables)


def test_a_volume_that_is_missing(good: Backup) -> None:
    volumes = good.config.volumes | {"api-logs": {"service": "api", "rule": "files"}}
    fails(good, "There is no volume", volumes=volumes)


def test_a_sealed_vault_and_a_refused_login(good: Backup) -> None:
    login = dict(good.server.vault_login)
    good.server.vault_login["secret_id"] = "wrong"
    fails(good, "Vault refuses PUT auth/approle/login (status 4")
    good.server.vault_login.update(login)
    good.server.bao.restart()
    try:
        with pytest.raises(Problem, match="Vault is sealed"):
            good.make()
    finally:
        unseal(good)


def unseal(backup: Backup) -> None:
    client = hvac.Client(backup.server.bao.url)
    client.sys.submit_unseal_key(backup.server.shares[0])
    wait_until(lambda: client.sys.read_health_status().status_code == 200, "Vault is active")


def test_a_vault_that_is_still_sealed_is_waited_for(good: Backup) -> None:
    """As after a boot, at which the timer makes up for a night."""
    good.server.bao.restart()
    said = []

    def tell(text: str) -> None:
        said.append(text)
        if "Vault is sealed" in text:
            unseal(good)

    good.provide()
    assert run.back_up(dataclasses.replace(good.config, ready_wait=60), tell)["success"]
    assert "waiting for up to 60 s: Vault is sealed" in " ".join(said)


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_snapshot_of_vault_that_is_cut_short_or_damaged(good: Backup, tmp_path: Path, cut: float) -> None:
    good.restic().call("restore", "latest", f"--target={tmp_path}", "--include=vault.snap")
    [snapshot] = tmp_path.rglob("vault.snap")
    assert checked(snapshot)["Index"] > 0
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(Problem, match="Vault's snapshot is"):
        checked(snapshot)


def test_a_change_of_the_server_is_waited_for(good: Backup) -> None:
    note = {"verb": "deploy", "who": "operator@laptop", "begun": "2026-11-27T03:00:00Z"}
    with good.config.change_lock.open("w+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(json.dumps(note))
        held.flush()
        assert "still being changed" in fails(
            good, "deploy by operator@laptop, since 2026-11-27T03:00:00Z", run_wait=0.3
        )
        threading.Timer(1, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        begun = time.monotonic()
        assert good.make(run_wait=30)["success"] and time.monotonic() - begun >= 1
    assert good.make()["success"], "the note of a run that was killed is no run"


def test_a_roll_out_is_waited_for(good: Backup) -> None:
    with good.config.rollout_lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fails(good, "a roll-out", run_wait=0.3)


def test_two_backups_exclude_each_other(good: Backup) -> None:
    before = good.last()
    with (good.config.directory / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Problem, match="Another backup, proof or restore is under way"):
            good.make()
    assert good.last() == before, "the other one records itself"


def test_a_backup_that_is_stopped_is_recorded_and_leaves_nothing(good: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: parts.Parts) -> dict:
        (self.config.staging / "secret").write_text("x")
        os.kill(os.getpid(), 15)
        time.sleep(5)

    monkeypatch.setattr(parts.Parts, "collect", stopped)
    fails(good, "was ended by SIGTERM")


def test_what_a_killed_backup_left_is_removed(good: Backup) -> None:
    good.config.staging.mkdir()
    (good.config.staging / "old.dump").write_text("secret")
    good.make()
    assert "old.dump" not in good.restic().call("ls", "latest")[1]


def test_a_file_that_cannot_be_read_leaves_no_snapshot(good: Backup) -> None:
    file = good.config.stack / "unreadable"
    opened = good.restic()
    file.touch()
    subprocess.run(["mount", "--bind", "/proc/self/mem", file], check=True)
    try:
        with pytest.raises(Problem, match=r"1 files could not be read: .*unreadable"):
            repository.Repository(good.config, opened).store([good.config.stack], [])
        assert len(opened.snapshots()) == 1
    finally:
        subprocess.run(["umount", file], check=True)
        file.unlink()
