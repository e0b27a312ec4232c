"""Backups: what holds state has a rule, and what runs on a host is what the settings say."""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.module_utils import metrics
from ansible_collections.openmates.server.plugins.modules import host_credential
from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import lines_of_backup, problems_of_backup
from rendering import ROOT, render, templar
from test_preflight import SECRETS, good, problems

ROLE = ROOT / "roles/backup"
sys.path.insert(0, str(ROLE / "files"))
from openmates_backup import files, locks, parts, repository, run, state  # noqa: E402
from openmates_backup.config import Config  # noqa: E402
from openmates_backup.problem import Problem  # noqa: E402
from openmates_backup.restic import Restic  # noqa: E402

RULES = {"files", "dump", "snapshot", "never"}
SFTP = {
    "openmates_backup_repository": "sftp:backup@backup.example.net:/srv/openmates",
    "openmates_backup_sftp_key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nabc\n",
    "openmates_backup_sftp_known_hosts": ["backup.example.net ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"],
}
PASSWORD = "Rt8YuIo5PaKd2NbHs6jFg1Lw"


# ---------------------------------------------------------------- what is stored


def rules(host: Templar) -> dict[str, dict]:
    return host.template(trust_as_template("{{ backup_volumes }}"))


def lacking(compose: dict, found: dict[str, dict]) -> set[str]:
    """Volumes of the Compose file without a rule."""
    return {name for name in compose["volumes"] if found.get(name, {}).get("rule") not in RULES}


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_every_volume_has_a_rule(environment: str, tmp_path: Path) -> None:
    compose = yaml.safe_load(render(environment, tmp_path / "a")["docker-compose.yml"])
    found = rules(templar(environment, tmp_path / "b"))
    assert set(found) == set(compose["volumes"]) and lacking(compose, found) == set()
    assert lacking({"volumes": {**compose["volumes"], "new-data": {}}}, found) == {"new-data"}


def test_no_service_keeps_state_where_no_rule_is(tmp_path: Path) -> None:
    """An anonymous volume, or a directory of the host that a container may write to, would be in no backup."""
    compose = yaml.safe_load(render("prod", tmp_path)["docker-compose.yml"])
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source, *more = volume.split(":")
            assert source in compose["volumes"] or more[-1] == "ro", f"{name}: {volume}"


def test_a_rule_is_one_that_the_program_follows(tmp_path: Path) -> None:
    host = templar("prod", tmp_path)
    found, databases = rules(host), host.template(trust_as_template("{{ backup_databases }}"))
    assert {volume["service"] for volume in found.values() if volume["rule"] == "dump"} == set(databases)
    assert databases == {"cms-database": ["directus"]}
    assert {volume["service"] for volume in found.values() if volume["rule"] == "snapshot"} == {"vault", "cache"}
    assert {name for name, volume in found.items() if volume["rule"] == "never"} == {
        *("celerybeat-data", "promtail-data", "prometheus-data", "loki-data", "alertmanager-data")
    }
    assert {name: volume["sqlite"] for name, volume in found.items() if volume["sqlite"]} == {
        "grafana-data": ["grafana.db"]
    }


@pytest.mark.parametrize(("setting", "volume"), [("metrics", "prometheus-data"), ("logs", "loki-data")])
@pytest.mark.parametrize("value", [True, "true"])
def test_metrics_and_logs_are_stored_by_choice(tmp_path: Path, setting: str, volume: str, value: object) -> None:
    chosen = rules(templar("prod", tmp_path / "a", **{f"openmates_backup_{setting}": value}))
    before = rules(templar("prod", tmp_path / "b"))
    assert chosen[volume]["rule"] == "files"
    assert {name for name in chosen if chosen[name] != before[name]} == {volume}


# ---------------------------------------------------------------- the files on a host


def wired(tmp_path: Path, **settings: object) -> Templar:
    """The templar of the role's tasks."""
    host = templar("prod", tmp_path, openmates_backup_password=PASSWORD, **settings)
    loader = DataLoader()
    defaults = loader.load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True)
    own = loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    more = {"role_path": str(ROLE), "inventory_hostname": "prod1"}
    host.available_variables = {**defaults, **host.available_variables, **own, **more}
    return host


def unit(host: Templar, name: str) -> configparser.ConfigParser:
    text = (ROLE / f"templates/etc/systemd/system/{name}.j2").read_text()
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read_string(host.template(trust_as_template(text)))
    return parser


def test_the_program_reads_the_configuration_that_the_role_writes(tmp_path: Path) -> None:
    host = wired(tmp_path / "a", **SFTP, openmates_backup_keep_daily="3", openmates_directory="/srv/stack")
    text = host.template(trust_as_template("{{ __backup_settings | to_nice_json }}"))
    for secret in (PASSWORD, "PRIVATE KEY"):
        assert secret not in text
    file = tmp_path / "backup.json"
    file.write_text(text)
    config = Config.load(file)
    assert (config.host, config.environment, config.tags) == ("prod1", "prod", "openmates,env=prod")
    assert (config.stack, config.keep["daily"]) == (Path("/srv/stack"), 3)
    assert config.volume_path("cms-uploads") == Path("/var/lib/docker/volumes/openmates-cms-uploads/_data")
    assert config.known_hosts == SFTP["openmates_backup_sftp_known_hosts"][0]
    with pytest.raises(Problem, match=r"site\.yml --tags backup"):
        Config.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"openmates_backup_repository": "/mnt/backups"}, {"password"}),
        (SFTP, {"password", "sftp_key"}),
        (
            {"openmates_backup_repository": "s3:https://s3.example.net/b", "openmates_backup_s3_secret": "k"},
            {"password", "s3_key_id", "s3_secret"},
        ),
    ],
)
def test_the_credential_holds_what_the_kind_of_repository_needs(tmp_path: Path, settings: dict, names: set) -> None:
    host = wired(tmp_path, **{**{"openmates_backup_sftp_key": "unused"}, **settings})
    assert set(host.template(trust_as_template("{{ __backup_secrets }}"))) == names


def test_packages_are_installed_where_there_are_backups(tmp_path: Path) -> None:
    def names(**settings: object) -> set[str]:
        host = wired(tmp_path / str(len(settings)), **settings)
        return {entry["name"] for entry in host.template(trust_as_template("{{ openmates_backup_needs }}"))}

    assert names() == set()
    assert names(openmates_backup_repository="/mnt/backups") == {"restic"}
    assert names(**SFTP) == {"restic", "openssh-client"}


def test_all_files_of_the_program_are_written(tmp_path: Path) -> None:
    written = wired(tmp_path, **SFTP).template(trust_as_template("{{ __backup_program }}"))
    host = tmp_path / "host"
    for file in written:
        path = host / Path(file["path"]).relative_to("/usr/local/lib/openmates")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
    command = (
        (ROLE / "templates/usr/local/sbin/openmates-backup").read_text().replace("/usr/local/lib/openmates", str(host))
    )
    done = subprocess.run(["python3", "-I", "-c", command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "make a backup now" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("repository", "written"),
    [("/mnt/backups/openmates", "-/mnt/backups/openmates"), (SFTP["openmates_backup_repository"], "")],
)
def test_a_backup_may_write_to_its_own_directories_only(tmp_path: Path, repository: str, written: str) -> None:
    service = unit(wired(tmp_path, openmates_backup_repository=repository), "openmates-backup.service")
    options = service["Service"]
    assert options["ReadWritePaths"].split() == ["-/var/lib/openmates/metrics", *([written] if written else [])]
    assert service["Unit"].get("RequiresMountsFor", "") == written.lstrip("-")
    assert (options["ProtectSystem"], options["NoNewPrivileges"], options["MemoryMax"]) == ("strict", "true", "250M")
    assert (options["IOSchedulingClass"], options["Nice"], options["CPUSchedulingPolicy"]) == ("idle", "19", "idle")
    assert options["Slice"] == "background.slice"
    assert PASSWORD not in json.dumps({name: dict(section) for name, section in service.items()})


def test_the_timer_has_the_time(tmp_path: Path) -> None:
    timer = unit(wired(tmp_path, openmates_backup_time="04:15"), "openmates-backup.timer")["Timer"]
    assert (timer["OnCalendar"], timer["Persistent"]) == ("04:15", "true")


# ---------------------------------------------------------------- preflight


def with_backup(**settings: object) -> list[str]:
    """What preflight says of a server with these settings and a password, and no others of backups."""
    others = {name: value for name, value in good("prod").items() if not name.startswith("openmates_backup")}
    return problems({**others, "openmates_backup_password": PASSWORD, **settings})


@pytest.mark.parametrize(
    "repository",
    [
        *(
            "",
            "/mnt/backups/openmates",
            "sftp:backup@host.example.net:/srv/x",
            "sftp://backup@[2001:db8::1]:2222//srv/x",
        ),
        *("s3:https://s3.example.net/bucket/prod", "s3:s3.amazonaws.com/bucket"),
    ],
)
def test_repositories_that_are_accepted(repository: str) -> None:
    credentials = {**SFTP, "openmates_backup_s3_key_id": "name", "openmates_backup_s3_secret": "key"}
    assert with_backup(**{**credentials, "openmates_backup_repository": repository}) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"openmates_backup_repository": "b2:bucket"}, "'b2:bucket' is not a repository"),
        ({"openmates_backup_repository": "backups"}, "Use one like /mnt/backups/openmates, sftp:"),
        ({"openmates_backup_repository": "/"}, "is not a repository"),
        (
            {"openmates_backup_repository": "/var/lib/docker/backups"},
            "is in /var/lib/docker, which holds what is backed up",
        ),
        ({"openmates_backup_repository": "/opt/openmates/backups"}, "is in /opt/openmates, which is backed up itself"),
        ({"openmates_backup_repository": "/var/lib/openmates"}, "which is backed up itself"),
        ({"openmates_backup_repository": "/tmp/x"}, "which is empty after a reboot"),
        ({"openmates_backup_repository": "/mnt/../opt"}, "has '..' in it"),
        (
            {"openmates_backup_repository": "/mnt/b", "openmates_backup_password": ""},
            f"openmates_backup_password in {SECRETS}",
        ),
        ({"openmates_backup_repository": "/mnt/b", "openmates_backup_password": "short"}, "fewer than 20"),
        ({**SFTP, "openmates_backup_sftp_key": ""}, f"openmates_backup_sftp_key in {SECRETS}: it is empty"),
        ({**SFTP, "openmates_backup_sftp_key": "ssh-ed25519 AAAA"}, "it is not a private SSH key"),
        ({**SFTP, "openmates_backup_sftp_known_hosts": []}, "openmates_backup_sftp_known_hosts"),
        ({**SFTP, "openmates_backup_sftp_known_hosts": ["backup.example.net"]}, "not a line of known_hosts"),
        (
            {"openmates_backup_repository": "s3:https://s3.example.net/b", "openmates_backup_s3_key_id": "x"},
            "openmates_backup_s3_secret",
        ),
        (
            {"openmates_backup_repository": "s3:https://s3.example.net/b", "openmates_backup_s3_secret": "x"},
            "openmates_backup_s3_key_id",
        ),
        ({"openmates_backup_time": "Mon 03:30"}, "is not a time of each day"),
        ({"openmates_backup_time": "2026-01-01 03:30"}, "is not a time of each day"),
        ({"openmates_backup_keep_daily": -1}, "-1 is not a number of backups"),
        ({"openmates_metrics_directory": "metrics"}, "not a separate directory"),
        (
            {
                "openmates_backup_repository": "/mnt/b",
                **{f"openmates_backup_keep_{name}": 0 for name in ("daily", "weekly", "monthly")},
            },
            "no backup would be kept",
        ),
    ],
)
def test_settings_that_are_refused(settings: dict, words: str) -> None:
    found = with_backup(**settings)
    assert [problem for problem in found if words in problem], found
    assert len(found) == 1


def test_all_that_is_wrong_is_reported_at_once_and_no_secret() -> None:
    found = with_backup(
        openmates_backup_repository="sftp:host:/x",
        openmates_backup_password="canary",
        openmates_backup_sftp_key="canary",
    )
    assert len(found) == 3 and "canary" not in " ".join(found)


def test_without_backups_no_password_is_needed() -> None:
    assert with_backup(openmates_backup_password="") == []


# ---------------------------------------------------------------- verify


def seen(**found: object) -> dict:
    return {"backup": {"rc": 0, "stdout": json.dumps({"age": None, "configured": 60, **found})}}


GOOD = {"success": True, "problem": "", "last_success": {"snapshot": "abcdef0123"}}


@pytest.mark.parametrize(
    ("found", "problem", "line"),
    [
        ({}, "", "none yet"),
        ({"configured": 27 * 3600}, "There is no good backup, and there should be one each day", "none yet"),
        ({**GOOD, "age": 3600}, "", "1.0 h old, snapshot abcdef01"),
        ({**GOOD, "age": 25.9 * 3600}, "", "25.9 h old"),
        ({**GOOD, "age": 27 * 3600}, "The last good backup is 27 h old, and there should be one", "27.0 h old"),
        (
            {**GOOD, "problem": "The disk is full.", "age": 3600},
            "failed: The disk is full. The last good backup is 1 h old",
            "a later one FAILED",
        ),
        ({"problem": "No."}, "The last backup failed: No. There is no good backup", "none yet, the last one FAILED"),
    ],
)
def test_verify_reports_the_age_of_the_last_good_backup(found: dict, problem: str, line: str) -> None:
    result = list(problems_of_backup(seen(**found)))
    assert (problem in result[0] and len(result) == 1) if problem else result == []
    assert line in "\n".join(lines_of_backup(seen(**found)))


@pytest.mark.parametrize("result", [{"rc": 1, "stdout": "no configuration"}, {"rc": 2, "msg": "No such file"}])
def test_verify_reports_a_program_that_fails(result: dict) -> None:
    [problem] = problems_of_backup({"backup": result})
    assert "openmates-backup failed on the host" in problem and "--tags backup" in problem


@pytest.mark.parametrize("found", [{}, {"backup": {"skipped": True}}, {**seen(problem="x"), "dry_run": True}])
def test_verify_says_nothing_where_there_are_no_backups(found: dict) -> None:
    assert list(problems_of_backup(found)) == list(lines_of_backup(found)) == []


# ---------------------------------------------------------------- the credential


@pytest.fixture
def creds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd-creds that writes down how it was called, and hides what it encrypts."""
    program = tmp_path / "bin/systemd-creds"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/called\ncase $1 in encrypt) base64 -w0 ;;'
        ' decrypt) base64 -d "$3" ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "store/secret"


def test_a_credential_is_written_once_and_again_when_it_changes(creds: Path, run_module) -> None:
    def ensure(check: bool = False, **content: str) -> dict:
        arguments = {"path": str(creds), "content": json.dumps(content)}
        result = run_module(host_credential.main, check=check, diff=True, **arguments)
        assert not [value for value in content.values() if value in json.dumps(result)]
        return result

    assert ensure(check=True, password="canary-one")["changed"] and not creds.exists()
    assert ensure(password="canary-one")["keys"] == ["password"]
    assert creds.stat().st_mode & 0o777 == 0o600 and "canary" not in creds.read_text()
    assert not ensure(password="canary-one")["changed"]
    assert ensure(check=True, password="canary-two")["changed"]
    changed = ensure(password="canary-two", key="canary-key")
    assert changed["keys"] == ["key", "password"] and changed["diff"]["before"] != changed["diff"]["after"]
    assert not ensure(password="canary-two", key="canary-key")["changed"]
    assert "canary" not in (creds.parents[1] / "called").read_text(), "in no argument"


def test_a_credential_that_this_host_cannot_decrypt_is_replaced(creds: Path, run_module) -> None:
    creds.parent.mkdir()
    creds.write_text("of another host")
    content = {"path": str(creds), "content": json.dumps({"password": "x"})}
    assert run_module(host_credential.main, **content)["changed"]
    assert not run_module(host_credential.main, **content)["changed"]


# ---------------------------------------------------------------- the program's small parts


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        repository=str(tmp_path / "r"), host="h", environment="prod", keep={}, volumes={}, databases={},
        state=tmp_path, metrics=tmp_path / "metrics", rollout_lock=tmp_path / "rollout",
    )  # fmt: skip


def test_a_failure_keeps_what_is_known_of_the_last_good_backup(config: Config) -> None:
    config.directory.mkdir()
    good = run.record(config, 1000.5, {"snapshot": "abc", "added_bytes": 5, "snapshots": 2, "repository_bytes": 7}, "")
    assert good["last_success"] == {"time": "1970-01-01T00:16:40Z", "seconds": 1000.5, "snapshot": "abc"}
    failed = run.record(config, 2000.5, {}, "No.")
    assert failed["last_success"] == good["last_success"] and not failed["success"]
    assert (failed["snapshots"], failed["repository_bytes"]) == (2, 7)
    assert state.read(config.directory / "last.json") == failed
    text = (config.metrics / "openmates_backup.prom").read_text()
    assert "\nopenmates_backup_last_success_timestamp_seconds 1000.5\n" in text
    assert "\nopenmates_backup_last_run_success 0\n" in text and "last_run_added_bytes" not in text


def test_a_result_that_cannot_be_written_does_not_hide_the_reason(
    config: Config, capsys: pytest.CaptureFixture
) -> None:
    """As on a full disk."""
    run.record(dataclasses.replace(config, metrics=Path("/proc/none")), 1.0, {}, "The reason.")
    assert "could not be recorded" in capsys.readouterr().out


def test_metrics_have_a_meaning_and_those_without_a_value_are_left_out() -> None:
    assert metrics.text("x", {"a": (1.0, "One."), "b": (None, "None."), "c": (0.5, "Half.")}) == (
        "# HELP x_a One.\n# TYPE x_a gauge\nx_a 1\n# HELP x_c Half.\n# TYPE x_c gauge\nx_c 0.5\n"
    )


def test_a_sample_is_all_of_a_few_files_and_some_of_many(tmp_path: Path) -> None:
    for number in range(200):
        file = tmp_path / f"{number // 50}/{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_text("x" * number)
        os.utime(file, (number, number))
    (tmp_path / "link").symlink_to("0/1")
    found = files.summary(tmp_path, {tmp_path / "3"})
    assert (found["files"], found["bytes"]) == (150, sum(range(150)))
    names = [one["path"] for one in found["sample"]]
    assert {f"2/{number}" for number in range(140, 150)} <= set(names), "the newest"
    assert files.ALL_UP_TO <= len(names) <= files.ALL_UP_TO + files.NEWEST
    assert names == [one["path"] for one in files.summary(tmp_path, {tmp_path / "3"})["sample"]]
    assert len(files.summary(tmp_path / "0")["sample"]) == 50


def test_a_file_counts_with_the_size_that_it_had(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"one\ntwo\n")
    assert files.sha256(file, 4) != files.sha256(file)
    file.write_bytes(b"one\n")
    assert files.sha256(file, 4) == files.sha256(file)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-27T03:30:02.123456789Z", 1795750202),
        ("2026-11-27T05:30:02.1+02:00", 1795750202),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times_of_restic(text: str, seconds: float) -> None:
    assert repository.moment(text) == seconds


def test_a_path_is_no_pattern() -> None:
    assert repository.escaped(Path("/a*b/[c]?")) == "/a\\*b/\\[c]\\?"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"verb": "site"}'])
def test_a_lock_file_that_no_run_holds(tmp_path: Path, content: str) -> None:
    (tmp_path / "change.lock").write_text(content)
    assert locks.change_under_way(tmp_path / "change.lock", tmp_path / "rollout") == ""
    assert locks.change_under_way(tmp_path / "none", tmp_path / "rollout") == ""


def test_secrets_are_in_files_of_memory_only(config: Config) -> None:
    secrets = {"password": "canary-1", "s3_key_id": "id", "s3_secret": "canary-2", "sftp_key": "canary-3"}
    restic = Restic(dataclasses.replace(config, known_hosts="host ssh-ed25519 AAAA"), secrets)
    try:
        texts = [*restic._environment.values(), *restic._options]
        assert not [text for text in texts if "canary" in text]
        file = restic._environment["RESTIC_PASSWORD_FILE"]
        read = subprocess.run(["cat", file], capture_output=True, text=True, check=True).stdout
        assert read == "canary-1" and Path(file).stat().st_mode & 0o777 == 0o600
        assert "canary-2" in Path(restic._environment["AWS_SHARED_CREDENTIALS_FILE"]).read_text()
        [option] = [option for option in restic._options if "sftp" in option]
        assert "StrictHostKeyChecking=yes" in option and "IdentitiesOnly=yes" in option
    finally:
        restic.close()
    assert not Path(file).exists()


def test_what_is_not_stored(config: Config) -> None:
    volumes = {"grafana-data": {"service": "grafana", "rule": "files", "sqlite": ["grafana.db"]}}
    found = parts.Parts(dataclasses.replace(config, volumes=volumes, docker_root=Path("/d")), {}, print)
    live = Path("/d/volumes/openmates-grafana-data/_data/grafana.db")
    assert {live, Path(f"{live}-wal"), config.change_lock, config.metrics, config.directory / "cache"} <= found.excluded
    assert found.paths == [config.stack, config.state, live.parent]
