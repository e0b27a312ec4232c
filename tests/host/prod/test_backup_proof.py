"""The proof of a backup on a provisioned server, by its own unit, with the genuine services' images."""

from __future__ import annotations

import json
import re
import time

import pytest

from lab import Server, wait_until

STATE = "/var/lib/openmates/backup"
METRICS = "/var/lib/openmates/metrics/openmates_backup_proof.prom"
PARTS = {"snapshot", "files", "database", "vault", "cache"}
UNIT = "openmates-backup-proof.service"
MIB = 1 << 20


def record(server: Server) -> dict:
    return json.loads(server.run(f"cat {STATE}/proof.json"))


def metrics(server: Server) -> dict[str, float]:
    lines = server.run(f"grep -v '^#' {METRICS}").splitlines()
    return {name.removeprefix("openmates_backup_"): float(value) for name, value in (line.split() for line in lines)}


def ended(server: Server) -> bool:
    """Whether no proof is under way. One writes its record a moment before its unit ends."""
    return server.host.run(f"systemctl is-active {UNIT}").stdout.strip() in ("inactive", "failed")


def leaves_nothing(server: Server) -> bool:
    label = "--filter label=com.docker.compose.project=openmates-proof"
    found = server.run(
        f"docker ps --all --quiet {label}; docker volume ls --quiet {label}; ls -d {STATE}/proof || true"
    )
    return found.strip() == ""


@pytest.fixture(scope="module")
def proven(server: Server) -> str:
    """The output of a backup with its proof, and its containers' limits as they were seen meanwhile."""
    result = server.playbook("playbooks/backup.yml", "-e", "prove=true")
    assert result.returncode == 0, result.stdout + server.run(f"journalctl -u {UNIT} -n 40 -o cat")
    return result.stdout


def fails(server: Server, part: str, words: str) -> None:
    """The proof that the unit makes now fails in a part, and leaves the last good result and nothing else."""
    good = record(server)["last_proven"]
    assert server.host.run(f"systemctl start {UNIT}").rc != 0
    found = record(server)
    assert found["parts"][part]["state"] == "failed" and words in found["parts"][part]["text"], found
    assert found["last_proven"] == good
    seen = metrics(server)
    assert (
        seen[f'proof_success{{part="{part}"}}'] == 0
        and seen["last_proven_restore_timestamp_seconds"] == good["seconds"]
    )
    assert leaves_nothing(server)


def test_every_part_of_a_backup_is_proven(server: Server, proven: str) -> None:
    found = record(server)
    assert {part: about["state"] for part, about in found["parts"].items()} == dict.fromkeys(PARTS, "proven"), found
    assert re.search(r"proven \| vault \| the canary was decrypted", re.sub(r"\s+", " ", proven))
    seen = metrics(server)
    assert time.time() - seen["last_proven_restore_timestamp_seconds"] < 3600
    assert leaves_nothing(server)
    verified = server.playbook("playbooks/verify.yml")
    assert verified.returncode == 0 and "Last proven restore: 0." in verified.stdout, verified.stdout


def test_it_stays_within_its_memory_and_without_a_network(server: Server, proven: str) -> None:
    """Seen from outside while it runs: the containers' limits and networks, and the peak of the unit."""
    server.run(f"systemctl start --no-block {UNIT}")
    shown = "--format '{{.HostConfig.Memory}} {{.HostConfig.NetworkMode}} {{.Name}}'"
    label = "--filter label=com.docker.compose.project=openmates-proof"
    seen: dict[str, tuple[int, str]] = {}

    def look() -> bool:
        answer = server.host.run(f"docker ps --quiet {label} | xargs --no-run-if-empty docker inspect {shown}")
        lines = [line.split() for line in answer.stdout.splitlines() if len(line.split()) == 3]
        assert len(lines) <= 1, "one container at a time"
        seen.update({name: (int(memory), network) for memory, network, name in lines})
        return ended(server)

    wait_until(look, "the proof has ended", 300)
    assert record(server)["state"] == "proven"
    assert {name.split("-")[-2] for name in seen} >= {"database", "vault"}
    limit = int(server.run(f"systemctl show --property MemoryMax --value {UNIT}"))
    for memory, network in seen.values():
        assert network == "none" and memory + limit <= 512 * MIB


def test_the_timer_has_it_made_after_a_backup(server: Server, proven: str) -> None:
    assert "openmates-backup-nightly.service" in server.run("systemctl show --property Triggers openmates-backup.timer")
    before = record(server)["ended"]
    server.run("systemctl start openmates-backup-nightly.service")
    wait_until(lambda: record(server)["ended"] != before and ended(server), "the proof after it has ended", 300)
    assert record(server)["state"] == "proven"


def test_wrong_shares_are_found(server: Server, proven: str) -> None:
    store = "/etc/credstore.encrypted/openmates-vault-shares"
    server.run(f"cp -p {store} {store}.kept")
    try:
        count = 'import json, sys; print(len(json.load(sys.stdin)["shares"]))'
        decrypt = f"systemd-creds decrypt --name=openmates-vault-shares {store} -"
        right = int(server.run(f"{decrypt} | python3 -c '{count}'"))
        text = json.dumps({"shares": ["ab" * 32 + f"{number:02x}" for number in range(1, right + 1)]})
        server.run(f"echo '{text}' | systemd-creds encrypt --name=openmates-vault-shares - - > {store}")
        fails(server, "vault", "do not open the Vault in the snapshot")
        verified = server.playbook("playbooks/verify.yml")
        assert verified.returncode != 0 and "The last proof of a backup failed" in re.sub(r"\s+", " ", verified.stdout)
    finally:
        server.run(f"mv {store}.kept {store}")


def test_a_deleted_pack_is_found(server: Server, proven: str) -> None:
    packs = "find /srv/openmates-backup/data -type f -printf '%s %p\\n' | sort -n | tail -1 | cut -d' ' -f2"
    pack = server.run(packs).strip()
    server.run(f"mv {pack} /srv/pack")
    try:
        fails(server, "snapshot", "no such file or directory")
    finally:
        server.run(f"mv /srv/pack {pack}")


def test_a_disk_without_room_is_refused(server: Server, proven: str) -> None:
    server.run("mkdir /srv/small && mount -t tmpfs -o size=64m,mode=0700 tmpfs /srv/small")
    server.run(f"cp -p {STATE}/*.json /srv/small && mount --bind /srv/small {STATE}")
    try:
        fails(server, "snapshot", "MiB free, and a proof needs")
    finally:
        server.run(f"umount {STATE}; umount /srv/small; rmdir /srv/small")


def test_a_proof_that_is_killed_leaves_nothing_and_is_no_success(server: Server, proven: str) -> None:
    label = "--filter label=com.docker.compose.project=openmates-proof"
    server.run(f"systemctl start --no-block {UNIT}")
    wait_until(lambda: server.run(f"docker ps --quiet {label}").strip(), "it has restored something", 120)
    server.run(f"systemctl kill --signal=KILL {UNIT}")
    ended = f"systemctl is-active {UNIT}"
    wait_until(lambda: server.host.run(ended).stdout.strip() == "failed", "the unit has ended", 60)
    assert leaves_nothing(server) and "was killed" in record(server)["problem"]
    again = server.host.run(f"systemctl start {UNIT}")
    assert again.rc == 0 and record(server)["state"] == "proven", again.stderr
