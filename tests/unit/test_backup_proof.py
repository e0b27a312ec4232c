"""The proof of a backup: what runs on a host for it, what it compares, and what is recorded and reported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from ansible.template import trust_as_template
from ansible_collections.openmates.server.plugins.module_utils import metrics
from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import lines_of_backup, problems_of_backup
from rendering import ROOT

ROLE = ROOT / "roles/backup"
sys.path.insert(0, str(ROLE / "files"))
from openmates_backup import files, proof, proof_files, proof_project, proof_vault, room, state  # noqa: E402
from openmates_backup.config import Config  # noqa: E402
from openmates_backup.problem import Problem  # noqa: E402
from openmates_backup.proof_result import FAILED, PARTS, PROVEN, UNPROVEN, Result  # noqa: E402
from test_backup import SFTP, unit, wired  # noqa: E402

MIB = 1 << 20


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(
        repository=str(tmp_path / "r"), host="h", environment="prod", keep={}, volumes={}, databases={},
        state=tmp_path, metrics=tmp_path / "metrics", rollout_lock=tmp_path / "rollout", docker_root=tmp_path,
    )  # fmt: skip
    made.directory.mkdir()
    return made


# ---------------------------------------------------------------- on the host


@pytest.mark.parametrize(("unseal", "shares"), [("host", True), ("operator", False)])
def test_the_unit_has_the_shares_only_where_the_host_has_them(tmp_path: Path, unseal: str, shares: bool) -> None:
    host = wired(tmp_path, **SFTP, openmates_vault_unseal=unseal)
    text = host.template(
        trust_as_template((ROLE / "templates/etc/systemd/system/openmates-backup-proof.service.j2").read_text())
    )
    credentials = [line.partition("=")[2] for line in text.splitlines() if line.startswith("LoadCredential")]
    assert credentials == ["openmates-backup", *(["openmates-vault-shares"] if shares else [])]
    settings = host.template(trust_as_template("{{ __backup_settings | to_json }}"))
    assert json.loads(settings)["vault_unseal"] == unseal


def test_the_proof_has_little_and_cleans_up_however_it_ends(tmp_path: Path) -> None:
    service = unit(wired(tmp_path, **SFTP), "openmates-backup-proof.service")["Service"]
    assert int(service["MemoryMax"].removesuffix("M")) + int(proof_project.MEMORY.removesuffix("m")) <= 512
    assert (service["IOSchedulingClass"], service["Nice"], service["ProtectSystem"]) == ("idle", "19", "strict")
    assert (service["CPUSchedulingPolicy"], service["Slice"]) == ("idle", "background.slice")
    assert service["ExecStart"].endswith("openmates-backup prove")
    assert service["ExecStopPost"].endswith("openmates-backup clean")


def test_the_timer_has_a_backup_made_and_then_proven(tmp_path: Path) -> None:
    host = wired(tmp_path, **SFTP)
    nightly = unit(host, "openmates-backup-nightly.service")
    assert unit(host, "openmates-backup.timer")["Timer"]["Unit"] == "openmates-backup-nightly.service"
    assert nightly["Unit"]["Requires"] == nightly["Unit"]["After"] == "openmates-backup.service"
    assert nightly["Service"]["ExecStart"].endswith("start --no-block openmates-backup-proof.service")
    assert "proof" not in unit(host, "openmates-backup.service")["Service"]["ExecStart"]


def test_what_the_program_imports_is_written_beside_it(tmp_path: Path) -> None:
    written = wired(tmp_path, **SFTP).template(trust_as_template("{{ __backup_program }}"))
    names = {file["path"].removeprefix("/usr/local/lib/openmates/") for file in written}
    assert {"vault_api.py", "openmates_backup/proof.py", "openmates_backup/proof_vault.py"} <= names


# ---------------------------------------------------------------- what is compared


@pytest.fixture
def restored(tmp_path: Path) -> tuple[dict, Path]:
    """A manifest with a volume of two files, and the volume as it was restored."""
    folder = tmp_path / "restored/volume"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / name).write_text(f"content of {name}")
        os.utime(folder / name, (1000, 1000))
    about = {**files.summary(folder), "path": "/volume", "rule": "files"}
    os.utime(folder, (1000, 1000))
    return {"started": "2026-11-27T03:30:00Z", "volumes": {"v": about}, "trees": {}}, tmp_path / "restored"


def compare(manifest: dict, root: Path) -> str:
    return proof_files.prove(manifest, lambda path: root / path.lstrip("/"))


def test_files_that_are_as_they_were_or_longer(restored: tuple[dict, Path]) -> None:
    manifest, root = restored
    with (root / "volume/two").open("a") as file:
        file.write("a later line of a log")
    assert compare(manifest, root).startswith("2 files compared, 0 had changed")


def change(file: Path, what: str) -> None:
    folder_time = file.parent.stat().st_mtime
    if what == "missing":
        file.unlink()
    else:
        file.write_text({"cut short": "c", "other content": "x" * 40}[what])
        os.utime(file, (1000, 1000))
    os.utime(file.parent, (folder_time, folder_time))


@pytest.mark.parametrize("what", ["missing", "cut short", "other content"])
def test_a_file_that_differs(restored: tuple[dict, Path], what: str) -> None:
    manifest, root = restored
    change(root / "volume/two", what)
    with pytest.raises(Problem, match=f"v: two .*{what}"):
        compare(manifest, root)


@pytest.mark.parametrize("what", ["missing", "cut short", "other content"])
def test_a_file_that_a_service_changed_while_the_backup_was_made(restored: tuple[dict, Path], what: str) -> None:
    manifest, root = restored
    file = root / "volume/two"
    change(file, what)
    os.utime(file if file.exists() else file.parent)
    assert compare(manifest, root).startswith("1 files compared, 1 had changed")


def test_an_empty_volume_is_never_good(restored: tuple[dict, Path]) -> None:
    manifest, root = restored
    for file in (root / "volume").iterdir():
        file.unlink()
    with pytest.raises(Problem, match="v is empty, and had 2 files"):
        compare(manifest, root)
    (root / "volume").rmdir()
    with pytest.raises(Problem, match="v is empty"):
        compare(manifest, root)


def test_disks_that_lack_room_are_named_with_what_is_needed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = {
        "databases": {"d": {"globals": {"bytes": 0}, "databases": {"x": {"bytes": 100 * MIB}}}},
        "caches": {}, "volumes": {}, "trees": {"state": {"bytes": 50 * MIB}},
    }  # fmt: skip
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage)
    one = proof.Proof(config, Result(config), print)
    needed = 150 + 3 * 100 + 256 + 256
    usage.free = needed * MIB
    one.check_space(manifest)
    usage.free -= 1
    with pytest.raises(Problem, match=rf"{needed - 1} MiB free, and a proof needs {needed} MiB .*Nothing was restored"):
        one.check_space(manifest)


def test_a_server_whose_operator_has_the_shares_cannot_prove_vault() -> None:
    with pytest.raises(proof_vault.Unproven, match="openmates_vault_unseal: operator"):
        proof_vault.shares_of("operator")


# ---------------------------------------------------------------- what is recorded


def recorded(config: Config, **states: str) -> dict:
    result = Result(config)
    result.begin()
    for part in PARTS:
        result.set(part, states.get(part, PROVEN), f"about {part}")
    return result.write()


def test_the_last_good_proof_stays_known(config: Config) -> None:
    good = recorded(config)
    assert good["last_proven"]["seconds"] == good["seconds"] and not (config.directory / "proof.running").exists()
    failed = recorded(config, database=FAILED, vault=UNPROVEN)
    assert (failed["state"], failed["problem"], failed["unproven"]) == (FAILED, "about database", "about vault")
    assert failed["last_proven"] == good["last_proven"]
    unproven = recorded(config, vault=UNPROVEN)
    assert (unproven["state"], unproven["last_proven"]) == (UNPROVEN, good["last_proven"])
    assert state.read(config.directory / "proof.json") == unproven
    text = (config.metrics / "openmates_backup_proof.prom").read_text().splitlines()
    assert f"openmates_backup_last_proven_restore_timestamp_seconds {good['seconds']}" in text
    assert 'openmates_backup_proof_success{part="vault"} 0' in text
    assert 'openmates_backup_proof_unproven{part="vault"} 1' in text
    assert 'openmates_backup_proof_success{part="cache"} 1' in text


def test_what_was_not_reached_is_not_proven(config: Config) -> None:
    result = Result(config)
    result.set("snapshot", PROVEN, "x")
    result.fail("No.")
    record = result.write()
    assert record["problem"] == "No.", "once"
    assert [found["state"] for found in record["parts"].values()].count(FAILED) == len(PARTS) - 1


def test_a_metric_with_labels_has_one_meaning() -> None:
    text = metrics.text("x", {'a{part="1"}': (1.0, "A."), 'a{part="2"}': (0.0, "A."), "b": (None, "B.")})
    assert text == '# HELP x_a A.\n# TYPE x_a gauge\nx_a{part="1"} 1\nx_a{part="2"} 0\n'


# ---------------------------------------------------------------- verify


def seen(**proven: object) -> dict:
    backup = {"age": 3600, "configured": 60, "problem": "", "last_success": {"snapshot": "abc"}}
    return {"backup": {"rc": 0, "stdout": json.dumps({**backup, "proof": proven})}}


@pytest.mark.parametrize(
    ("proven", "problem", "line"),
    [
        ({}, "", "Last proven restore: none yet"),
        ({"age": 3 * 3600}, "", "Last proven restore: 3.0 h ago"),
        ({"age": 31 * 3600}, "The last proof of a backup is 31 h old, and there should be one", "31.0 h ago"),
        ({"age": 3600, "unproven": "No shares."}, "", "UNPROVEN in part, 1.0 h ago: No shares."),
        ({"age": 3600, "problem": "No."}, "failed: No. No restore was ever proven", "PROBLEM 1.0 h ago"),
        (
            {"age": 3600, "problem": "No.", "last_proven": {"time": "2026-11-26T04:00:00Z"}},
            "failed: No. Last proven restore: 2026-11-26T04:00:00Z. `backup.yml -e prove=true`",
            "PROBLEM",
        ),
    ],
)
def test_verify_reports_the_last_proven_restore(proven: dict, problem: str, line: str) -> None:
    found = list(problems_of_backup(seen(**proven)))
    assert (problem in found[0] and len(found) == 1) if problem else found == []
    assert line in list(lines_of_backup(seen(**proven)))[-1]


def test_verify_misses_a_first_proof_after_a_day() -> None:
    found = seen()
    found["backup"]["stdout"] = json.dumps({"age": 3600, "configured": 31 * 3600, "proof": {}})
    [problem] = problems_of_backup(found)
    assert "No backup was proven yet" in problem
