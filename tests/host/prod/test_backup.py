"""Backups of a provisioned server, made by its own unit as an operator asks for them."""

from __future__ import annotations

import json
import re

import pytest

from lab import Server

STATE = "/var/lib/openmates/backup"
METRICS = "/var/lib/openmates/metrics/openmates_backup.prom"


@pytest.fixture(scope="module")
def made(server: Server) -> str:
    """The output of a backup that an operator asked for."""
    result = server.playbook("playbooks/backup.yml")
    assert result.returncode == 0, result.stdout + server.run("journalctl -u openmates-backup -n 30 -o cat")
    return result.stdout


def status(server: Server) -> dict:
    return json.loads(server.run("openmates-backup status --json"))


def manifest(server: Server) -> dict:
    return json.loads(server.run(f"openmates-backup restic dump latest {STATE}/staging/manifest.json"))


def test_the_operator_sees_the_snapshot_its_size_and_how_long_it_took(server: Server, made: str) -> None:
    snapshot = status(server)["snapshot"][:8]
    assert re.search(rf"Snapshot {snapshot}: .*B, of which .* were new, in \d+ s", re.sub(r"\s+", " ", made))
    listed = server.playbook("playbooks/backups.yml")
    assert listed.returncode == 0 and snapshot in listed.stdout and "changed=0" in listed.stdout


def test_every_volume_and_database_is_in_it(server: Server, made: str) -> None:
    found = manifest(server)
    volumes = {name.removeprefix("openmates-") for name in server.run("docker volume ls -q").split()}
    assert set(found["volumes"]) == {name for name in volumes if len(name) != 64}
    database = found["databases"]["cms-database"]["databases"]["directus"]
    count = "docker exec openmates-cms-database-1 psql -U directus -Atc 'select count(*) from directus_roles'"
    assert database["tables"]["public.directus_roles"]["rows"] == int(server.run(count))
    assert found["vault"]["index"] > 0 and found["vault"]["engine"] == "openbao"
    assert found["caches"]["cache"]["keys"] > 0
    assert found["release"]["images"] and found["images"]["api"]
    paths = server.run("openmates-backup restic ls latest").splitlines()
    assert {"/opt/openmates/docker-compose.yml", "/opt/openmates/secrets/cms/SECRET"} <= set(paths)
    assert not [path for path in paths if "postgres-data" in path or "promtail-data" in path]


def test_no_secret_is_left_in_plaintext(server: Server, made: str) -> None:
    left = set(server.run(f"ls -A {STATE}").split()) - {"proof.json"}
    assert left == {"cache", "last.json", "lock", "repository.json"}
    assert server.run(f"stat -c '%a %U' {STATE} /etc/openmates/backup.json").split() == ["700", "root", "600", "root"]
    password = server.operator.secrets()["openmates_backup_password"]
    places = "/etc /usr/local /opt/openmates /var/lib/openmates /srv/openmates-backup /run/systemd /var/log"
    search = f"grep --recursive --fixed-strings --files-with-matches --file=- {places}"
    searched = server.host.run(f"printf %s '{password}' | {search}")
    assert searched.stdout == ""
    server.run(
        "test -s /etc/credstore.encrypted/openmates-backup -a -s /etc/credstore.encrypted/openmates-vault-backup"
    )


def test_monitoring_and_verify_see_it(server: Server, made: str) -> None:
    metrics = dict(line.split() for line in server.run(f"grep -v '^#' {METRICS}").splitlines())
    assert metrics["openmates_backup_last_run_success"] == "1"
    assert float(metrics["openmates_backup_last_success_timestamp_seconds"]) > 0
    verified = server.playbook("playbooks/verify.yml")
    assert verified.returncode == 0 and "Backups: the last good one is 0." in verified.stdout


def test_it_runs_every_night_with_little_and_may_do_little(server: Server) -> None:
    assert server.run("systemctl is-enabled openmates-backup.timer").strip() == "enabled"
    assert "03:30" in server.run("systemctl show --property TimersCalendar openmates-backup.timer")
    properties = "MemoryMax,Nice,IOSchedulingClass,CPUSchedulingPolicy"
    shown = server.run(f"systemctl show --property {properties} openmates-backup.service").split()
    assert set(shown) == {"MemoryMax=262144000", "Nice=19", "IOSchedulingClass=3", "CPUSchedulingPolicy=5"}
    exposure = server.run("systemd-analyze security --no-pager openmates-backup.service").splitlines()[-1]
    assert float(re.search(r": (\d+\.\d) ", exposure)[1]) < 4, exposure


def test_a_failure_is_shown_and_reported_and_the_last_good_backup_stays(server: Server, made: str) -> None:
    good = status(server)["last_success"]
    server.run("mv /srv/openmates-backup /srv/unmounted")
    try:
        failed = server.playbook("playbooks/backup.yml")
        assert failed.returncode != 0 and "not there any more" in re.sub(r"\s+", " ", failed.stdout)
        assert "openmates_backup_last_run_success 0" in server.run(f"cat {METRICS}").splitlines()
        verified = server.playbook("playbooks/verify.yml")
        assert verified.returncode != 0 and "The last backup failed" in re.sub(r"\s+", " ", verified.stdout)
    finally:
        server.run("rmdir /srv/openmates-backup; mv /srv/unmounted /srv/openmates-backup")
    assert status(server)["last_success"] == good
    again = server.playbook("playbooks/backup.yml")
    assert again.returncode == 0, again.stdout


def test_without_a_repository_nothing_is_left_that_makes_backups(server: Server, made: str) -> None:
    off = server.playbook("site.yml", "--tags", "backup", "-e", "openmates_backup_repository=")
    try:
        assert off.returncode == 0, off.stdout
        left = (
            "ls /etc/systemd/system/openmates-backup.* /etc/credstore.encrypted/*backup* /etc/openmates/backup.json "
            + METRICS
        )
        assert server.host.run(left).stdout == ""
        assert (
            server.host.run("systemctl list-timers --all openmates-backup.timer").stdout.count("openmates-backup") == 0
        )
        once_more = server.playbook("site.yml", "--tags", "backup", "-e", "openmates_backup_repository=")
        assert once_more.returncode == 0 and "changed=0" in once_more.stdout
    finally:
        on = server.playbook("site.yml", "--tags", "vault,backup")
    assert on.returncode == 0, on.stdout
    assert "changed=0" in server.playbook("site.yml", "--tags", "vault,backup").stdout
    again = server.playbook("playbooks/backup.yml")
    assert again.returncode == 0, again.stdout
