"""Repositories on other machines: an SFTP server, and what a server of S3 is asked with."""

from __future__ import annotations

import dataclasses
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Backup
from openmates_backup.problem import Problem
from real import docker, image, wait_until


@dataclasses.dataclass
class Place:
    """A machine with sshd, and what an operator knows of it."""

    name: str
    address: str
    key: str
    known_hosts: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("client", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    name = f"backup-test-place-{folder.stat().st_ino}"
    start = (
        "mkdir -p /run/sshd /root/.ssh && cp /keys/client.pub /root/.ssh/authorized_keys && cp /keys/host /etc/ssh/key"
        " && chown root:root /root/.ssh/authorized_keys /etc/ssh/key && chmod 600 /etc/ssh/key &&"
        " exec /usr/sbin/sshd -D -e -h /etc/ssh/key -o PermitRootLogin=prohibit-password"
    )
    docker("run", "--detach", f"--name={name}", f"--volume={folder}:/keys:ro", image("host"), "sh", "-c", start)
    try:
        address = docker("inspect", "--format={{.NetworkSettings.IPAddress}}", name).stdout.strip()
        knock = ["ssh-keyscan", "-T", "1", address]
        wait_until(lambda: b"ssh-ed25519" in subprocess.run(knock, capture_output=True).stdout, "sshd answers")
        key_type, key, *_ = (folder / "host.pub").read_text().split()
        yield Place(name, address, (folder / "client").read_text(), f"{address} {key_type} {key}")
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


def to(backup: Backup, place: Place) -> Backup:
    repository = f"sftp:root@{place.address}:/srv/{backup.folder.parent.name}"
    backup.config = dataclasses.replace(backup.config, repository=repository, known_hosts=place.known_hosts)
    backup.secrets["sftp_key"] = place.key
    return backup


def test_a_backup_to_another_machine(backup: Backup, place: Place) -> None:
    assert to(backup, place).make()["snapshots"] == 1
    folder = backup.config.repository.rpartition(":")[2]
    assert "config" in docker("exec", place.name, "ls", folder).stdout.split()
    kept = [path for path in backup.config.state.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"PRIVATE KEY" in path.read_bytes()]


def test_another_machine_at_its_address_is_refused(backup: Backup, place: Place, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    key_type, key, *_ = (tmp_path / "other.pub").read_text().split()
    to(backup, place)
    backup.config = dataclasses.replace(backup.config, known_hosts=f"{place.address} {key_type} {key}")
    with pytest.raises(Problem, match=r"(?i)host key verification failed"):
        backup.make()


def test_a_key_that_the_machine_does_not_let_in(backup: Backup, place: Place, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    to(backup, place).secrets["sftp_key"] = (tmp_path / "other").read_text()
    with pytest.raises(Problem, match=r"(?i)permission denied"):
        backup.make()


def test_s3_is_asked_with_the_key_of_the_credential(backup: Backup) -> None:
    asked = []

    class Bucket(http.server.BaseHTTPRequestHandler):
        """Refuses everything."""

        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            body = b"<Error><Code>AccessDenied</Code><Message>Access denied.</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        repository = f"s3:http://127.0.0.1:{server.server_port}/bucket/prod"
        backup.config = dataclasses.replace(backup.config, repository=repository)
        backup.secrets |= {"s3_key_id": "AKIDTEST", "s3_secret": "canary-secret"}
        with pytest.raises(Problem) as problem:
            backup.make()
        server.shutdown()
    assert asked and all("Credential=AKIDTEST/" in header for header in asked)
    assert "openmates_backup_repository" in str(problem.value) and "canary" not in str(problem.value)
