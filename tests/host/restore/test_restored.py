"""A server is lost with all it held; a new one gets everything back from a backup, with one command."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import pytest
from drilled import ENVIRONMENT, VOLUMES, Drill
from killing import kill_at
from moments import Moment

from lab import ROOT, Operator

REPOSITORY = "/srv/openmates-backup"  # as inventories/lab has it; the drill carries it to the new server


@pytest.fixture(scope="module")
def drill(host) -> Iterator[Drill]:
    """A server with a backup, and what it holds."""
    made = Drill(host)
    keys = Operator().keys
    if not made.works("docker volume inspect openmates-vault-data"):  # an earlier drill removed it: new keys, too
        for file in keys.glob(f"{made.name}.*"):
            file.unlink()
    made.playbook("site.yml")
    made.seed()
    made.old_token, made.old_login = made.token(), made.login()
    made.before = made.held()
    made.playbook("playbooks/backup.yml")
    yield made


@pytest.fixture(scope="module")
def lost(drill: Drill, tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """The server is lost, a new one has its address; the repository and the operator's keys were elsewhere."""
    kept, keys = tmp_path_factory.mktemp("kept"), Operator().keys
    subprocess.run(["docker", "cp", "--quiet", f"{drill.container}:{REPOSITORY}", kept / "repository"], check=True)
    files = list(keys.glob(f"{drill.name}.yml"))
    assert files, "the keys are what a restore cannot do without"
    for file in files:
        shutil.copy2(file, kept)
    drill.lab("destroy.yml")
    drill.lab("create.yml")
    for file in files:
        shutil.copy2(kept / file.name, keys)
    subprocess.run(["docker", "cp", "--quiet", kept / "repository", f"{drill.container}:{REPOSITORY}"], check=True)
    drill.on_host(f"chown -R root:root {REPOSITORY}")
    return drill


def test_a_new_server_gets_everything_back(lost: Drill) -> None:
    """Provisioning ends where Vault is empty; the restore needs no word, because nothing is replaced."""
    stopped = lost.playbook("site.yml", good=False)
    assert "with restore.yml" in stopped
    begun = time.monotonic()
    shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest")
    print(f"restored in {time.monotonic() - begun:.0f} s, {lost.on_host(f'du -sh {REPOSITORY}').split()[0]}")
    assert lost.held() == lost.before
    for part in ("vault", "cms-database", "cache", "cms-uploads", "api-logs"):
        assert f"- {part}: from 2" in shown
    assert "replaces what is there" not in shown


def test_the_api_is_ready_and_clients_are_let_in(lost: Drill) -> None:
    assert lost.works("openmates-ready --wait 60")
    for left in ("/var/lib/openmates/backup/restore", "/var/lib/openmates-maintenance/flag.json"):
        assert not lost.works(f"ls -d {left}")
    assert "changed=0" in lost.playbook("site.yml")


def test_tokens_and_logins_of_the_snapshot_are_revoked(lost: Drill) -> None:
    assert lost.token() != lost.old_token
    assert lost.vault("GET", "auth/token/lookup-self", None, lost.old_token)[0] == 403
    assert lost.vault("PUT", "auth/approle/login", lost.old_login)[0] == 400
    assert lost.vault("PUT", "auth/approle/login", lost.login())[0] == 200


def test_data_is_not_replaced_without_the_word(lost: Drill) -> None:
    for arguments, reason in (
        ([], f"-e restore_replace={lost.name}"),
        (["-e", "restore_replace=another"], "restore_replace names another"),
        (["-e", "snapshot=0123456789"], "has no snapshot 0123456789"),
        (["-e", "only=cms-databse"], "no part of this snapshot: cms-databse"),
        (["-e", "restore_from=another"], "has no snapshot of another"),
    ):
        shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest", *arguments, good=False)
        assert reason in shown and "was not changed" in shown
    assert lost.held() == lost.before


def test_one_part_comes_back_and_the_others_stay(lost: Drill) -> None:
    lost.on_host(f"rm {VOLUMES}/openmates-cms-uploads/_data/drill.jpg")
    word = ["-e", "snapshot=latest", "-e", "only=cms-uploads", "-e", f"restore_replace={lost.name}"]
    dry = lost.playbook("playbooks/restore.yml", *word, "--check")
    assert "- cms-uploads:" in dry and not lost.works(f"test -e {VOLUMES}/openmates-cms-uploads/_data/drill.jpg")
    database = "docker inspect --format {{.State.StartedAt}} openmates-cms-database-1"
    started = lost.on_host(database)
    lost.playbook("playbooks/restore.yml", *word)
    assert lost.held() == lost.before and lost.on_host(database) == started


#: Vault is restored, and the database or what follows is being replaced.
KILLED = Moment(
    "restore",
    "main.yml",
    "openmates.server.watched_script",
    command="test -e /var/lib/openmates/backup/restore/under-way.json",
)


def test_killed_in_the_middle_and_repeated(lost: Drill) -> None:
    word = ["-e", "snapshot=latest", "-e", f"restore_replace={lost.name}"]
    lost.on_host("docker exec openmates-cms-database-1 psql -U directus -qc 'delete from drill where id > 7'")
    kill_at(KILLED, lost.command("playbooks/restore.yml", *word), partial(Drill.works, lost), ROOT, ENVIRONMENT)
    refused = lost.playbook("playbooks/backup.yml", good=False)
    assert "has not ended, so nothing is backed up" in refused
    shown = lost.playbook("playbooks/restore.yml", "-e", "snapshot=latest")
    assert "this one goes on" in shown
    assert lost.held() == lost.before
    lost.playbook("playbooks/backup.yml")
