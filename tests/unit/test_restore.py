"""Restores: which snapshot, which parts, what stops, and what an operator reads. tests/backup restores real data."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from rendering import ROOT, templar

ROLE = ROOT / "roles/restore"
sys.path.insert(0, str(ROOT / "roles/backup/files"))
from openmates_backup import (  # noqa: E402
    postgres,
    postgres_restore,
    restore_choice,
    restore_files,
    restore_parts,
    restore_target,
    room,
    state,
)
from openmates_backup.config import Config  # noqa: E402
from openmates_backup.problem import Problem  # noqa: E402

GLOBALS = """--
-- Roles
--
\\restrict abc
CREATE ROLE directus;
ALTER ROLE directus WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$of-the-old-server';
CREATE ROLE "a reader";
ALTER ROLE "a reader" WITH LOGIN;
GRANT directus TO "a reader";
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        repository="/mnt/backups",
        host="prod1",
        environment="prod",
        keep={},
        volumes={
            "postgres-data": {"service": "cms-database", "rule": "dump"},
            "cms-uploads": {"service": "cms", "rule": "files"},
            "new-data": {"service": "new", "rule": "files"},
        },
        databases={"cms-database": ["directus"]},
        state=tmp_path / "state",
        docker_root=tmp_path / "docker",
    )


def snapshot(number: int, host: str = "prod1", environment: str = "prod", age: float = 0) -> dict:
    return {
        "id": f"{number:08x}" + 56 * "0",
        "short_id": f"{number:08x}",
        "hostname": host,
        "tags": ["openmates", f"env={environment}"],
        "time": state.stamp(time.time() - age),
    }


def test_the_latest_is_the_newest_of_this_host_and_environment(config: Config) -> None:
    found = [snapshot(1, age=9000), snapshot(2, age=60), snapshot(3, "prod2"), snapshot(4, environment="dev")]
    assert restore_choice.latest(found, config, "")["short_id"] == "00000002"
    assert restore_choice.latest(found, config, "prod2")["short_id"] == "00000003"
    with pytest.raises(Problem, match=r"of prod3\. It has some of prod1 \(dev\), prod1 \(prod\), prod2 \(prod\)"):
        restore_choice.latest(found, config, "prod3")
    with pytest.raises(Problem, match=r"no snapshot of prod1 \(prod\)\.$"):
        restore_choice.latest([], config, "")


def test_a_latest_from_the_future_is_refused(config: Config) -> None:
    with pytest.raises(Problem, match="dated in the future"):
        restore_choice.latest([snapshot(1), snapshot(2, age=-86400)], config, "")


def test_another_hosts_snapshot_is_named_by_the_word_only(config: Config) -> None:
    found = [snapshot(1), snapshot(2, "prod2")]
    assert restore_choice.by_id(found, config, "00000002", "prod2")["hostname"] == "prod2"
    for wanted, origin, reason in (
        ("00000002", "", "add -e restore_from=prod2"),
        ("00000001", "prod2", "restore_from names prod2"),
        ("0000", "", "has no snapshot 0000"),
        ("0000000f", "", "has no snapshot 0000000f"),
    ):
        with pytest.raises(Problem, match=reason):
            restore_choice.by_id(found, config, wanted, origin)


def test_the_services_own_user_keeps_the_password_of_this_server() -> None:
    found = list(postgres_restore.statements(GLOBALS, {"directus", "postgres"}, "directus"))
    assert found == [
        'CREATE ROLE "a reader";',
        'ALTER ROLE "a reader" WITH LOGIN;',
        'GRANT directus TO "a reader";',
    ]


def test_a_difference_of_tables_is_told_by_name() -> None:
    expected = {"a": {"rows": 1, "digest": "x"}, "b": {"rows": 2, "digest": "y"}, "c": {"rows": 0, "digest": "0.0"}}
    found = {"a": {"rows": 1, "digest": "z"}, "b": {"rows": 3, "digest": "y"}, "d": {"rows": 0, "digest": "0.0"}}
    assert postgres.different(expected, expected) == []
    assert postgres.different(found, expected) == [
        *("a (other content)", "b (3 rows instead of 2)", "c (missing)", "d (not in the manifest)")
    ]


MANIFEST = {
    "vault": {"time": "2026-11-27T03:30:05Z", "file": "/s/vault/vault.snap", "bytes": 10},
    "databases": {"cms-database": {"time": "t", "globals": {"bytes": 1}, "databases": {"directus": {"bytes": 100}}}},
    "caches": {"cache": {"time": "t", "bytes": 20}},
    "volumes": {
        "postgres-data": {"rule": "dump"},
        "cms-uploads": {"rule": "files", "time": "t", "bytes": 5000, "sqlite": {}},
        "of-an-app-that-is-gone": {"rule": "files", "time": "t", "bytes": 1, "sqlite": {}},
    },
}


def test_parts_are_what_this_server_has_a_place_for_and_vault_comes_first(config: Config) -> None:
    found = restore_parts.parts_of(MANIFEST, config)
    assert list(found) == ["vault", "cms-database", "cache", "cms-uploads"]
    assert {name: part.bytes for name, part in found.items()} == {
        **{"vault": 10, "cms-database": 101, "cache": 20, "cms-uploads": 5000}
    }
    assert list(restore_parts.chosen(found, ["cache"])) == ["cache"]
    with pytest.raises(Problem, match=r"no part .*: cach\. Its parts are vault, cms-database, cache, cms-uploads"):
        restore_parts.chosen(found, ["cach"])


def test_what_uses_a_part_stops_and_monitoring_goes_on(config: Config) -> None:
    running = {
        "api": ["openmates-api-logs"],
        "cms": ["openmates-cms-uploads"],
        "app-web": [],
        "grafana": ["openmates-grafana-data"],
        "cms-database": ["openmates-postgres-data"],
        "vault": [],
    }
    parts = restore_parts.parts_of(MANIFEST, config)

    def stops(*names: str) -> list[str]:
        return restore_parts.users([parts[name] for name in names], "openmates", running)

    assert stops("cms-database") == stops("vault") == stops("cache") == ["api", "app-web", "cms"]
    assert stops("cms-uploads") == ["cms"]


def test_a_disk_needs_room_for_copies_and_for_the_database_beside_the_present_one(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.directory.mkdir(parents=True)
    uploads = config.volume_path("cms-uploads")
    uploads.mkdir(parents=True)
    (uploads / "a").write_bytes(bytes(4000))
    parts = restore_parts.parts_of(MANIFEST, config).values()
    target = restore_target.Target(config)
    monkeypatch.setattr(room, "SPARE", 0)
    needed = (10 + 101 + 20) + (10 + 2 * 101 + 20) + (5000 - 4000)
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        if fits:
            target.check_room(parts)
        else:
            with pytest.raises(Problem, match="MiB free, and the restore needs"):
                target.check_room(parts)


def test_a_file_that_changed_while_the_backup_was_made_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("grown since")
    about = {"time": state.stamp(time.time() - 60), "sample": [{"path": "log", "bytes": 5, "sha256": "x"}]}
    about["sample"].append({"path": "gone", "bytes": 1, "sha256": "x"})
    part = restore_parts.Part("api-logs", "files", about)
    assert restore_files.compared(tmp_path, part) == ["log", "gone"]
    about["time"] = state.stamp(time.time() + 60)
    with pytest.raises(Problem, match="The volume api-logs is not what the manifest says: log, gone"):
        restore_files.compared(tmp_path, part)


# ---------------------------------------------------------------- the playbook


def of_role(tmp_path: Path, **values: object) -> Templar:
    host = templar("prod", tmp_path)
    loader = DataLoader()
    defaults, own = (
        loader.load_from_file(str(ROLE / f"{name}/main.yml"), trusted_as_template=True) for name in ("defaults", "vars")
    )
    host.available_variables = {**defaults, **host.available_variables, **own, "inventory_hostname": "prod1", **values}
    return host


def test_the_program_gets_what_the_operator_gave(tmp_path: Path) -> None:
    ask = trust_as_template("{{ __restore_arguments }}")
    least = of_role(tmp_path / "a", snapshot="latest").template(ask)
    assert least == ["--snapshot=latest", "--only=", "--major=cms-database=17"]
    words = {"snapshot": "0123abcd", "only": ["cache", "vault"], "restore_from": "prod2", "restore_replace": "prod1"}
    assert of_role(tmp_path / "b", **words).template(ask) == [
        *("--snapshot=0123abcd", "--only=cache,vault", "--from=prod2", "--replace", "--major=cms-database=17")
    ]
    assert of_role(tmp_path / "c", **(words | {"only": "cache,vault"})).template(ask)[1] == "--only=cache,vault"


PLAN = {
    "snapshot": "0123456789",
    "host": "prod2",
    "environment": "prod",
    "time": "2026-11-27T03:30:00Z",
    "parts": [{"name": "cache", "kind": "cache", "time": "2026-11-27T03:30:09Z", "bytes": 2048}],
    "replaces": ["cache"],
    "left_out": ["new-data"],
    "stops": ["api", "cms"],
    "continues": False,
    "images": {"api": "openmates-api:v1"},
}


def test_the_operator_reads_what_is_replaced_and_what_stops(tmp_path: Path) -> None:
    host = of_role(tmp_path, restore_plan=PLAN, restore_images={"api": "openmates-api:v2", "cms": "directus:11"})
    assert host.template(trust_as_template("{{ restore_report }}")).splitlines() == [
        "Snapshot 01234567 of prod2 (prod), 2026-11-27T03:30:00Z.",
        "- cache: 2.00 KB, from 2026-11-27T03:30:09Z, replaces what is there",
        "Clients get 503 meanwhile. api, cms stop.",
        "Not in the snapshot, so they stay as they are: new-data.",
        "The backup was made with other images: api openmates-api:v1, here openmates-api:v2.",
    ]


def test_the_report_has_rows_files_keys_and_seconds(tmp_path: Path) -> None:
    shared = {"time": "2026-11-27T03:30:09Z", "bytes": 2048, "seconds": 3.4}
    result = {
        "snapshot": "0123456789",
        "host": "prod1",
        "stack_differs": ["secrets/cms/SECRET"],
        "parts": [
            {"name": "vault", "kind": "vault", **shared},
            {"name": "cms-database", "kind": "database", "rows": 503, "tables": 4, **shared},
            {"name": "cache", "kind": "cache", "keys": 5, "keys_now": 4, **shared},
            {"name": "api-logs", "kind": "files", "files": 2, "changed_meanwhile": ["api.log"], **shared},
        ],
    }
    shown = of_role(tmp_path, restore_result=result).template(trust_as_template("{{ restore_result_report }}"))
    assert shown.splitlines() == [
        "Restored from snapshot 01234567 of prod1:",
        "- vault: from 2026-11-27T03:30:09Z, its canary decrypted; all tokens of the snapshot are revoked, in 3 s",
        "- cms-database: from 2026-11-27T03:30:09Z, 503 rows in 4 tables, as the manifest has them, in 3 s",
        "- cache: from 2026-11-27T03:30:09Z, 4 keys of 5; those that have expired are gone, in 3 s",
        "- api-logs: from 2026-11-27T03:30:09Z, 2 files, 2.00 KB; changed while the backup was made: api.log, in 3 s",
        "Compose files and secrets are the inventory's. These differ from the snapshot's: secrets/cms/SECRET.",
    ]


def tasks_of(playbook: str) -> list[dict]:
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}").read_text())
    return [task for play in plays for task in play.get("tasks", [])]


def place(tasks: list[dict], *words: str) -> int:
    [number] = [number for number, task in enumerate(tasks) if all(word in str(task) for word in words)]
    return number


def test_everything_is_refused_before_the_first_change() -> None:
    tasks = tasks_of("restore.yml")
    change = place(tasks, "'block'")
    assert tasks[change]["when"] == "not ansible_check_mode and not restore_plan.proven"
    for words in ("'required'}", "Check settings and host before", "'plan'}", "'restore_keys'}", "'check'}"):
        assert place(tasks, words) < change
    assert change == len(tasks) - 1, "the rest is site.yml"


def test_clients_are_let_in_when_all_is_started_and_before_verify_looks() -> None:
    site = tasks_of("site.yml")
    started, opened = place(site, "Start all other services"), place(site, "'restore'", "'end'")
    assert started < opened < place(site, "{'name': 'verify'}")
    end = yaml.safe_load((ROLE / "tasks/end.yml").read_text())
    assert place(end, "restore_ready_command") < place(end, "prove'") < place(end, "'off'") < place(end, "'end'")
