"""The disk of Docker's data is full: every verb stops before it makes it worse, and all is well with space again.

Docker's data move for that to a disk of their own that is small, a tmpfs: a full one must not be that of this machine.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from lab import Server, recap, wait_until

DOCKER = "/var/lib/docker"
FILL = f"{DOCKER}/fill"
DISK = "/run/lab-disk"
#: More than preflight asks for.
SPARE_GB = 4
#: Ten MB.
WRITE = """docker exec openmates-cms-database-1 psql -U directus -v ON_ERROR_STOP=1 -c "
  create table if not exists full_disk (text text);
  insert into full_disk select md5(random()::text) from generate_series(1, 100000)" """


def play(server: Server, verb: str, *arguments: str) -> subprocess.CompletedProcess:
    return server.playbook(verb, *arguments, "-e", "openmates_min_disk_gb=1")


def words(done: subprocess.CompletedProcess) -> str:
    return " ".join((done.stdout + done.stderr).split())


def ready(server: Server) -> None:
    wait_until(lambda: server.host.run("openmates-ready").rc == 0, "OpenMates is ready", 240)


class Disk:
    """Docker's disk of a lab host."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def outside(self, command: str) -> None:
        """A command in the host's mount namespace with the rights of this machine: a lab host may not mount."""
        name = f"openmates-lab-{self.server.name}"
        asked = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
        process = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run(["nsenter", f"--mount=/proc/{process}/ns/mnt", "sh", "-ec", command], check=True)

    def make(self) -> None:
        kib = int(self.server.run(f"du -sk {DOCKER}").split()[0]) + SPARE_GB * 2**20
        running = self.stop_docker()
        # A name with a slash, as a disk's: else Ansible's facts do not have it.
        self.outside(
            f"mkdir -p {DISK}; mount -t tmpfs -o size={kib}k,mode=710 /lab-disk {DISK};"
            f" cp -a {DOCKER}/. {DISK}; mount --bind {DISK} {DOCKER}"
        )
        self.start_docker(running)

    def remove(self) -> None:
        running = self.stop_docker()
        self.outside(f"umount {DOCKER} && umount {DISK}")
        self.start_docker(running)

    def stop_docker(self) -> str:
        """Its containers, which would outlive it. They are stopped, too."""
        running = " ".join(self.server.run("docker ps --quiet").split())
        self.server.run(f"systemctl stop openmates-heal && docker stop {running}")
        self.server.run("systemctl stop docker.socket docker")
        return running

    def start_docker(self, containers: str) -> None:
        self.server.run(f"systemctl start docker && docker start {containers} && systemctl start openmates-heal")

    def fill(self, free_mb: int) -> None:
        """Leave that much."""
        self.free()
        if not free_mb:
            self.server.run(f"cat /dev/zero > {FILL} 2> /dev/null || true")
            return
        available = int(self.server.run(f"df --output=avail --block-size=1M {DOCKER} | tail -1"))
        self.server.run(f"fallocate -l {available - free_mb}M {FILL}")

    def free(self) -> None:
        self.server.run(f"rm -f {FILL}")


@pytest.fixture(scope="module")
def disk(server: Server) -> Iterator[Disk]:
    made = Disk(server)
    made.make()
    try:
        ready(server)
        yield made
    finally:
        made.free()
        made.remove()


def state(server: Server) -> dict:
    """What a run that stops in time leaves as it was."""
    return {
        "containers": {name: found["Id"] for name, found in server.containers().items()},
        "stack": server.run("cd /opt/openmates && find . -type f -exec sha256sum {} + | sort"),
        "images": server.run("docker image ls --quiet --no-trunc | sort"),
        "snapshots": server.run("ls /srv/openmates-backup/snapshots 2> /dev/null || true"),
    }


@pytest.mark.parametrize(
    "verb", [("site.yml",), ("playbooks/deploy.yml", "-e", "version=v0.14.1"), ("site.yml", "--check")], ids=" ".join
)
def test_a_run_stops_before_any_change_and_names_the_disk(server: Server, disk: Disk, verb: tuple[str, ...]) -> None:
    disk.fill(free_mb=900)
    before = state(server)
    done = play(server, *verb)
    assert done.returncode != 0
    assert f"only 0.9 GB are free on the disk at {DOCKER}" in words(done), done.stdout[-3000:]
    assert "sudo docker image prune" in words(done)
    assert recap(done.stdout)["changed"] == 0
    assert state(server) == before


def test_a_backup_stops_before_the_cache_writes_its_snapshot(server: Server, disk: Disk) -> None:
    disk.fill(free_mb=1500)
    good = play(server, "playbooks/backup.yml")
    assert good.returncode == 0, good.stdout[-3000:]
    disk.fill(free_mb=100)
    before = state(server)
    assert before["snapshots"], "the repository is where this test looks"
    done = play(server, "playbooks/backup.yml")
    assert done.returncode != 0
    found = re.search(rf"The disk of {DOCKER} has \d+ MiB free, and a backup needs \d+ MiB there", words(done))
    assert found, done.stdout[-3000:]
    assert "Nothing was written" in words(done)
    assert state(server) == before


def test_without_any_space_nothing_is_lost_and_all_is_well_when_there_is_some_again(server: Server, disk: Disk) -> None:
    disk.fill(free_mb=0)
    wait_until(lambda: server.host.run(WRITE).rc != 0, "Postgres cannot write any more", 120)
    for verb in ("site.yml", "playbooks/deploy.yml", "playbooks/backup.yml"):
        done = play(server, verb)
        assert done.returncode != 0, done.stdout[-3000:]
        assert "free" in words(done), done.stdout[-3000:]
    disk.free()
    ready(server)  # without an operator, whatever has ended meanwhile
    assert server.host.run(WRITE).rc == 0
    backup = play(server, "playbooks/backup.yml", "-e", "prove=true")
    assert backup.returncode == 0, backup.stdout[-3000:]
    run = play(server, "site.yml")
    assert run.returncode == 0, run.stdout[-4000:]
    proof = json.loads(server.run("cat /var/lib/openmates/backup/proof.json"))
    assert proof["last_proven"]
