"""The proof of a backup, with the genuine restic, Postgres, Vault and cache: what it proves, and what it finds."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hvac
import pytest
from conftest import RESTIC, Backup, Server
from openmates_backup import locks, proof, proof_vault, room, run, state
from openmates_backup.containers import Containers
from openmates_backup.parts import Parts
from openmates_backup.postgres import Databases
from openmates_backup.problem import Problem
from openmates_backup.repository import Repository
from ports import free_port
from real import docker, image, wait_until

PARTS = ("snapshot", "files", "database", "vault", "cache")


@dataclasses.dataclass
class Case(Backup):
    """A copy of a repository with one good backup."""

    kept: Path  # the staging directory of that backup
    patch: pytest.MonkeyPatch

    def prove(self, *parts: str, **changes: object) -> dict:
        """A proof; of the last three parts only these, which take a while, or all."""
        for part, method in (("database", "databases"), ("vault", "vault"), ("cache", "caches")):
            if parts and part not in parts:
                self.patch.setattr(proof.Proof, method, lambda *_: "not of interest here")
        return proof.prove(dataclasses.replace(self.config, **changes), lambda _: None)

    def fails(self, part: str, words: str, *parts: str, **changes: object) -> dict:
        """The record of a proof in which a part fails for such a reason: the metric is 0, the last good one stays."""
        good = {"time": "2026-11-26T04:00:00Z", "seconds": 1795665600.0, "snapshot": "abc"}
        state.write(self.config.directory / "proof.json", {"last_proven": good})
        with pytest.raises(Problem) as problem:
            self.prove(*(parts or ("none",)), **changes)
        record, metrics = self.proof(), self.metrics()
        assert (record["state"], record["problem"]) == ("failed", str(problem.value))
        assert record["parts"][part]["state"] == "failed" and words in record["parts"][part]["text"], record
        assert record["last_proven"] == good
        assert metrics["last_proven_restore_timestamp_seconds"] == good["seconds"]
        assert metrics[f'proof_success{{part="{part}"}}'] == 0
        for other, found in record["parts"].items():
            assert metrics[f'proof_success{{part="{other}"}}'] == (found["state"] == "proven")
        assert self.secrets["password"] not in str(problem.value)
        self.leaves_nothing()
        return record

    def proof(self) -> dict:
        return json.loads((self.config.directory / "proof.json").read_text())

    def metrics(self) -> dict[str, float]:
        lines = (self.config.metrics / "openmates_backup_proof.prom").read_text().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("openmates_backup_"): float(value) for name, value in pairs}

    def left(self) -> list[str]:
        label = f"--filter=label=com.docker.compose.project={self.config.project}-proof"
        found = docker("ps", "--all", "--quiet", label).stdout + docker("volume", "ls", "--quiet", label).stdout
        return [*found.split(), *map(str, self.config.directory.glob("proof/*"))]

    def leaves_nothing(self) -> None:
        assert self.left() == [] and not (self.config.directory / "proof.running").exists()

    def store(self, change: Callable[[dict], None] = lambda _: None) -> None:
        """Another snapshot: the kept staging directory, after `change` has changed it and the manifest."""
        shutil.copytree(self.kept, self.config.staging)
        try:
            file = self.config.staging / "manifest.json"
            manifest = json.loads(file.read_text())
            change(manifest)
            file.write_text(json.dumps(manifest))
            parts = Parts(self.config, {}, lambda _: None)
            Repository(self.config, self.restic()).store(parts.paths, parts.excluded)
        finally:
            shutil.rmtree(self.config.staging)

    def date(self, text: str) -> None:
        """Have the only snapshot be of another time."""
        self.restic().call("rewrite", "latest", "--forget", f"--new-time={text}")


@pytest.fixture(scope="module")
def prepared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backup]:
    """A server with one good backup, of which the staging directory is kept."""
    folder = tmp_path_factory.mktemp("prepared")
    name = f"{server.project}-vault-1"  # whose image and user the proof takes
    labels = {"project": server.project, "service": "vault"}
    docker(
        *("run", "--detach", f"--name={name}", "--user=100:1000", "--entrypoint=sleep"),
        *(f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()),
        *(image("openbao"), "infinity"),
    )
    server.containers.append(name)
    config = dataclasses.replace(
        server.config,
        repository=str(folder / "repository"),
        state=folder / "state",
        metrics=folder / "metrics",
        vault_engine="openbao",
    )
    (folder / "credentials").mkdir()
    (folder / "state").mkdir()
    made = Backup(server, config, {"password": secrets.token_hex(20)}, folder / "credentials")
    store = Repository.store

    def keep(self: Repository, *arguments: object) -> dict:
        shutil.copytree(config.staging, folder / "kept")
        return store(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDENTIALS_DIRECTORY", str(made.folder))
        patch.setenv("PATH", f"{RESTIC.parent}:{os.environ['PATH']}")
        patch.setattr(Repository, "store", keep)
        made.make()
    yield made


@pytest.fixture
def case(prepared: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    for name in ("proof.json", "proof.running"):
        (prepared.config.directory / name).unlink(missing_ok=True)
    shutil.rmtree(prepared.config.metrics, ignore_errors=True)
    shutil.copytree(prepared.config.repository, tmp_path / "repository")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("PATH", f"{RESTIC.parent}:{os.environ['PATH']}")
    config = dataclasses.replace(prepared.config, repository=str(tmp_path / "repository"), run_wait=60)
    kept = prepared.config.state.with_name("kept")
    made = Case(prepared.server, config, dict(prepared.secrets), credentials, kept, monkeypatch)
    made.provide()
    shares(made, prepared.server.shares)
    yield made


def shares(case: Case, texts: list[str]) -> None:
    (case.folder / proof_vault.SHARES).write_text(json.dumps({"shares": texts}))


# ---------------------------------------------------------------- what is proven


def test_a_good_backup_is_proven_in_every_part(case: Case) -> None:
    """Also with a database that other roles own and may use."""
    begun = time.time()
    record = case.prove()
    assert {part: found["state"] for part, found in record["parts"].items()} == dict.fromkeys(PARTS, "proven")
    assert (record["state"], record["problem"], record["unproven"]) == ("proven", "", "")
    assert record == case.proof() and record["snapshot"] == case.restic().snapshots()[-1]["id"]
    texts = {part: found["text"] for part, found in record["parts"].items()}
    assert "3 tables with 503 rows" in texts["database"] and texts["vault"] == "the canary was decrypted"
    assert "1 of 1 keys" in texts["cache"]
    metrics = case.metrics()
    assert begun <= metrics["last_proven_restore_timestamp_seconds"] == metrics["last_proof_timestamp_seconds"]
    assert [metrics[f'proof_success{{part="{part}"}}'] for part in PARTS] == [1] * 5
    case.leaves_nothing()


def test_without_shares_vault_is_unproven_and_never_green(case: Case) -> None:
    record = case.prove("none" if (case.folder / proof_vault.SHARES).unlink() else "vault", vault_unseal="operator")
    assert (record["state"], record["parts"]["vault"]["state"], record["last_proven"]) == ("unproven",) * 2 + (None,)
    assert "openmates_vault_unseal: operator" in record["unproven"] and record["problem"] == ""
    metrics = case.metrics()
    assert metrics['proof_success{part="vault"}'] == 0 and metrics['proof_unproven{part="vault"}'] == 1
    assert "last_proven_restore_timestamp_seconds" not in metrics


def test_nothing_in_the_proof_has_a_network_or_more_memory_than_it_may(case: Case) -> None:
    seen: dict[str, dict] = {}
    inspect = Containers.inspect

    def look(self: Containers, service: str) -> dict:
        found = inspect(self, service)
        if self.project.endswith("-proof"):
            seen[service] = found
        return found

    case.patch.setattr(Containers, "inspect", look)
    case.prove()
    assert set(seen) == {"cms-database", "vault", "cache"}
    for found in seen.values():
        assert list(found["NetworkSettings"]["Networks"]) == ["none"] and found["HostConfig"]["PortBindings"] in (
            {},
            None,
        )
        assert found["HostConfig"]["Memory"] == 256 << 20 and found["HostConfig"]["ReadonlyRootfs"]


# ---------------------------------------------------------------- what is found


def described(file: Path) -> dict:
    content = file.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def dump_of(manifest: dict) -> tuple[Path, dict]:
    about = manifest["databases"]["cms-database"]["databases"]["directus"]
    return Path(about["file"]), about


def test_a_missing_table(case: Case) -> None:
    def lose(manifest: dict) -> None:
        file, about = dump_of(manifest)
        program = Databases(Containers(case.config.project), "cms-database").program("pg_dump")
        dump = subprocess.run(
            [*program, "-Fc", "--exclude-table=customers", "directus"], capture_output=True, check=True
        )
        file.write_bytes(dump.stdout)
        about |= described(file)

    case.store(lose)
    case.fails("database", "public.customers (missing)", "database")


def test_rows_that_are_lost_or_changed(case: Case) -> None:
    def change(manifest: dict) -> None:
        _, about = dump_of(manifest)
        about["tables"]["public.customers"]["rows"] += 1
        about["tables"]['"odd.schema"."A table"']["digest"] = "1.1"

    case.store(change)
    record = case.fails("database", "public.customers (500 rows instead of 501)", "database")
    assert '"odd.schema"."A table" (other content)' in record["problem"]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_truncated_dump(case: Case, noticed: bool) -> None:
    """Be it cut short after the manifest was written, or before."""

    def cut(manifest: dict) -> None:
        file, about = dump_of(manifest)
        file.write_bytes(file.read_bytes()[:-2000])
        about |= {} if noticed else described(file)

    case.store(cut)
    case.fails(
        "database", "bytes instead of" if noticed else "Restoring directus.dump of cms-database failed", "database"
    )


def test_a_deleted_pack(case: Case) -> None:
    packs = (Path(case.config.repository) / "data").rglob("*")
    max(packs, key=lambda path: path.stat().st_size * path.is_file()).unlink()
    case.fails("snapshot", "no such file or directory")


def test_shares_of_another_vault(case: Case) -> None:
    shares(case, [base64.b16encode(secrets.token_bytes(32)).decode().lower()])
    case.fails("vault", "do not open the Vault in the snapshot", "vault")


def test_shares_that_are_missing(case: Case) -> None:
    (case.folder / proof_vault.SHARES).unlink()
    case.fails("vault", "`site.yml --tags vault` stores them again", "vault")


def test_another_vault_than_the_one_that_encrypted(case: Case) -> None:
    root = hvac.Client(case.server.bao.url, token=case.server.root_token)
    root.secrets.transit.create_key("another")
    text = root.secrets.transit.encrypt_data("another", base64.b64encode(b"x").decode())["data"]["ciphertext"]
    case.store(lambda manifest: manifest["vault"]["canary"].update(ciphertext=text))
    case.fails("vault", "cannot decrypt what the server's Vault encrypted", "vault")


def test_a_vault_snapshot_that_is_cut_short(case: Case) -> None:
    def cut(manifest: dict) -> None:
        file = Path(manifest["vault"]["file"])
        file.write_bytes(file.read_bytes()[:-300])
        manifest["vault"] |= described(file)

    case.store(cut)
    case.fails("vault", "does not take its snapshot", "vault")


def test_a_cache_that_loads_nothing(case: Case) -> None:
    def spoil(manifest: dict) -> None:
        file = Path(manifest["caches"]["cache"]["file"])
        file.write_bytes(b"REDIS0011" + bytes(40))
        manifest["caches"]["cache"] |= described(file)

    case.store(spoil)
    case.fails("cache", "cache", "cache")


def test_empty_uploads(case: Case) -> None:
    folder = case.config.volume_path("cms-uploads")
    (folder / "cat.jpg").rename(folder.parent / "cat.jpg")
    try:
        case.store()
    finally:
        (folder.parent / "cat.jpg").rename(folder / "cat.jpg")
    case.fails("files", "cms-uploads is empty, and had 1 files")


def test_a_file_with_other_content(case: Case) -> None:
    """Which did not change meanwhile: its time is from before the backup."""
    folder = case.config.volume_path("cms-uploads")
    case.store(lambda manifest: manifest["volumes"]["cms-uploads"]["sample"][0].update(sha256="0" * 64))
    os.utime(folder / "cat.jpg", (1, 1))
    case.store(lambda manifest: manifest["volumes"]["cms-uploads"]["sample"][0].update(sha256="0" * 64))
    case.fails("files", "cms-uploads: cat.jpg has other content")


def test_a_stale_snapshot(case: Case) -> None:
    case.date("2026-01-01 00:00:00")
    record = case.fails("snapshot", "h old, and there should be one each day")
    assert record["parts"]["files"]["state"] == "proven", "it can be restored nevertheless"


def test_a_snapshot_from_the_future(case: Case) -> None:
    case.date("2099-01-01 00:00:00")
    case.fails("snapshot", "dated in the future")


def test_the_snapshot_of_another_host(case: Case) -> None:
    case.fails("snapshot", "has no snapshot of server2", host="server2")
    case.store(lambda manifest: manifest.update(host="server2"))
    case.fails("snapshot", "is not of this server: its manifest has {'host': 'server2'}")


def test_a_disk_without_room_is_refused(case: Case) -> None:
    case.patch.setattr(room, "SPARE", 1 << 50)
    record = case.fails("snapshot", "MiB free, and a proof needs")
    assert {found["state"] for found in record["parts"].values()} == {"failed"}


def test_a_disk_that_becomes_full(case: Case, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", small], check=True)
    case.patch.setattr(proof.Proof, "check_space", lambda *_: None)
    case.patch.setattr(proof, "folder_of", lambda _: small / "proof")
    try:
        assert "no space left" in case.fails("snapshot", "`restic restore` failed")["problem"].lower()
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_wrong_password(case: Case) -> None:
    case.secrets["password"] = "not-the-password"
    case.provide()
    case.fails("snapshot", "openmates_backup_password has to be the one")


def test_a_locked_repository(case: Case) -> None:
    process = subprocess.Popen(
        ["restic", "check", "--read-data", "--limit-download=1"],
        env=case.restic()._environment,
        stdout=subprocess.PIPE,
    )
    try:
        folder = Path(case.config.repository) / "locks"
        wait_until(lambda: list(folder.iterdir()), "restic has locked the repository")
        process.send_signal(signal.SIGSTOP)
        case.fails("snapshot", "is still locked by another program")
    finally:
        process.kill()
        process.wait()


def test_an_unreachable_repository(case: Case) -> None:
    case.secrets["sftp_key"] = "no key is asked for"
    case.provide()
    address = f"sftp://root@127.0.0.1:{free_port()}//srv/backups"
    assert "refused" in case.fails("snapshot", "(openmates_backup_repository)", repository=address)["problem"]


# ---------------------------------------------------------------- how it runs


def test_a_backup_and_a_proof_exclude_each_other(case: Case) -> None:
    with locks.exclusive(case.config.directory / "lock"), pytest.raises(Problem, match="Another backup, proof"):
        case.prove()
    assert not (case.config.directory / "proof.json").exists(), "the other one records itself"


def test_it_gives_way_to_a_change_of_the_server_and_begins_again(case: Case) -> None:
    note = {"verb": "restore", "who": "operator@laptop", "begun": "2026-11-27T03:00:00Z"}
    began, free = [], []

    def other_work() -> None:
        with locks.exclusive(case.config.directory / "lock"):
            free.extend([True, *case.left()])
        fcntl.flock(held, fcntl.LOCK_UN)

    def change(*_: object) -> str:
        if not began:
            began.append(time.monotonic())
            held.write(json.dumps(note))
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
            threading.Timer(3, other_work).start()
            time.sleep(60)  # ends at once: whatever the proof waits for is interrupted
        return "proven after it"

    case.patch.setattr(proof.Proof, "databases", change)
    with case.config.change_lock.open("w+") as held:
        record = case.prove("database")
    case.config.change_lock.unlink()
    assert record["state"] == "proven" and record["parts"]["database"]["text"] == "proven after it"
    assert 3 <= time.monotonic() - began[0] < 50
    assert free == [True], "while it waits, a restore has the lock, and nothing of the proof is left"
    case.leaves_nothing()


def test_a_proof_that_is_stopped_is_recorded(case: Case) -> None:
    def stopped(*_: object) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return ""

    case.patch.setattr(proof.Proof, "vault", stopped)
    case.fails("vault", "was ended by SIGTERM", "vault")


def test_what_a_killed_proof_left_is_removed_and_its_failure_recorded(case: Case) -> None:
    """As the unit does after it, and the next proof."""
    project, config = f"{case.config.project}-proof", case.config
    label = f"--label=com.docker.compose.project={project}"
    docker("volume", "create", label, f"{project}_database")
    mount = f"--volume={project}_database:/data"
    docker("run", "--detach", label, mount, "--network=none", "--entrypoint=sleep", image("cache"), "infinity")
    (config.directory / "proof").mkdir()
    (config.directory / "proof/secret").write_text("x")
    state.write(config.directory / "proof.running", {"begun": time.time()})
    case.patch.setenv("SERVICE_RESULT", "oom-kill")
    assert len(case.left()) == 3
    proof.clean_up(config)
    case.leaves_nothing()
    assert "was killed (oom-kill)" in case.proof()["problem"] and case.metrics()['proof_success{part="vault"}'] == 0
    record = case.proof()
    proof.clean_up(config)
    assert case.proof() == record, "a proof that ended by itself has recorded itself"


def test_a_backup_does_not_hold_the_proof(case: Case) -> None:
    """Neither its record nor what it restored."""
    (case.config.directory / "proof").mkdir()
    (case.config.directory / "proof/restored").write_text("x")
    state.write(case.config.directory / "proof.json", {})
    try:
        case.store()
        listed = case.restic().call("ls", "latest")[1]
    finally:
        shutil.rmtree(case.config.directory / "proof")
    assert "proof" not in listed.replace("test_proof", "") and run.LAST not in listed
