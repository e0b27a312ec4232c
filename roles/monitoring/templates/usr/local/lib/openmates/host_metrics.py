#!/usr/bin/python3
"""Write metrics of this host, as text files that Prometheus' node exporter serves. Usage: host_metrics.py CONFIG

Each part that cannot be read is left out and named by openmates_host_part_failed; the others are written all the same.
Standard library only, so that it works while the server's Python packages are being upgraded.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils import listeners, metrics, peer_scan
except ImportError:  # on the host they are beside this file, where an isolated Python does not search by itself
    sys.path.insert(0, str(Path(__file__).parent))
    from ansible_collections.openmates.server.plugins.module_utils import listeners, metrics, peer_scan
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker
from ansible_collections.openmates.server.plugins.module_utils.status import certificate, system, vault_server

PREFIX = "openmates"
UPDATES_EVERY = 6 * 3600  # seconds; a change of the package lists or of the packages has them counted at once
PACKAGES = (Path("/var/lib/apt/lists"), Path("/var/lib/dpkg/status"))
CACHE_PORT, CACHE_SECONDS = 6379, 5
LOOPBACK = ("127.", "::1")


class Problem(Exception):
    """Why a part could not be read."""


class Look:
    """One look at the host."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.docker = Docker(config["project"])

    def certificates(self) -> metrics.Samples:
        samples = {}
        for name in self.config["names"]:
            found = certificate.found(name)
            if found["problem"]:
                raise Problem(found["problem"])
            about = "When the certificate ends that Caddy presents for the name."
            samples[metrics.labelled("certificate_expires_timestamp_seconds", name=name)] = (found["ends"], about)
        return samples

    def vault(self) -> metrics.Samples:
        found = vault_server.found(self.config["vault_address"], Path(self.config["vault_token_file"]))
        seconds = found["token_seconds"]
        about = "For how long the services' token is valid; 0 if Vault refuses it. Missing while Vault cannot be asked."
        return {"vault_token_seconds": (0 if found["token_problem"] else seconds, about)}

    def queues(self) -> metrics.Samples:
        lengths = self._lengths(self.config["queues"])
        about = "Tasks that wait in the queue."
        return {metrics.labelled("queue_length", queue=queue): (length, about) for queue, length in lengths.items()}

    def _lengths(self, queues: list[str]) -> dict[str, int]:
        address = self.docker.address("cache")
        if not queues or not address:
            return {}
        password = Path(self.config["cache_password_file"]).read_text().strip()
        with socket.create_connection((address, CACHE_PORT), CACHE_SECONDS) as connection:
            connection.sendall(_command("AUTH", password) + b"".join(_command("LLEN", queue) for queue in queues))
            lines = connection.makefile("rb")
            if lines.readline() != b"+OK\r\n":
                raise Problem("the cache refuses its password")
            answers = [lines.readline().decode().strip() for _ in queues]
        if not all(answer.startswith(":") for answer in answers):
            raise Problem(f"the cache does not know the length of a queue: {answers}")
        return {queue: int(answer[1:]) for queue, answer in zip(queues, answers, strict=True)}

    def units(self) -> metrics.Samples:
        failed, about = system.failed_units(), "The units that have failed."
        return {
            "failed_units": (len(failed), "How many units have failed."),
            **{metrics.labelled("failed_unit", unit=unit): (1, about) for unit in failed},
        }

    def listening(self) -> metrics.Samples:
        """Programs that the outside could connect to but for the firewall, and that are not declared."""
        known = {int(port) for port in self.config["ports"]}
        found = {
            (entry["port"], entry["program"])
            for entry in listeners.found(Path("/proc"))
            if not entry["address"].startswith(LOOPBACK)
            and entry["port"] not in known
            and f"{entry['address']}:{entry['port']}" not in self.config["listeners"]
        }
        about = "Programs that listen on a port which is not declared."
        return {
            "unexpected_listeners": (len(found), "How many programs listen on ports that are not declared."),
            **{
                metrics.labelled("unexpected_listener", port=port, program=program): (1, about)
                for port, program in sorted(found)
            },
        }

    def scans(self) -> metrics.Samples:
        """Whether this server scans others. What it has seen of them ends with that."""
        seconds = peer_scan.interval(json.loads(Path(self.config["scan"]).read_text()))
        if not seconds:
            Path(self.config["directory"], "scan.prom").unlink(missing_ok=True)
        return {"scan_interval_seconds": (seconds, "After how long other servers are scanned again; 0 without any.")}

    def state(self) -> metrics.Samples:
        flag = Path(self.config["maintenance_flag"])
        return {
            "backup_expected": (float(self.config["backups"]), "Whether this server is to be backed up."),
            "maintenance": (float(flag.exists()), "Whether clients get the answer of a maintenance."),
            "reboot_required": (float(system.reboot()["required"]), "Whether a package asks for a reboot."),
        }


def _command(*words: str) -> bytes:
    """A command as the protocol of Redis has it."""
    encoded = [word.encode() for word in words]
    return b"".join([b"*%d\r\n" % len(encoded), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)])


def look(parts: Iterable[Callable[[], metrics.Samples]]) -> metrics.Samples:
    """The samples of all parts, and which part failed."""
    samples: dict[str, tuple[float | None, str]] = {}
    for part in parts:
        name, about = part.__name__.strip("_"), "Whether a part of these metrics could not be read."
        try:
            samples |= part()
            failed = 0
        except Exception as error:  # whatever it is, the other parts count
            print(f"<4>{name}: {error}", flush=True)
            failed = 1
        samples[metrics.labelled("host_part_failed", part=name)] = (failed, about)
    return {name: samples[name] for name in sorted(samples)}  # the lines of a metric have to follow each other


def updates() -> metrics.Samples:
    found = system.updates()
    if found["problem"]:
        raise Problem(found["problem"])
    return {
        "updates_pending": (found["packages"], "Packages with an update that is not installed."),
        "security_updates_pending": (found["security"], "Those of them that are for security."),
    }


def updates_due(file: Path, now: float) -> bool:
    """Whether the updates have to be counted again, which takes seconds."""
    try:
        counted = file.stat().st_mtime
    except OSError:
        return True
    changed = [path.stat().st_mtime for path in PACKAGES if path.exists()]
    return now - counted > UPDATES_EVERY or any(counted < moment for moment in changed)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    directory, seen = Path(config["directory"]), Look(config)
    parts = (seen.certificates, seen.vault, seen.queues, seen.units, seen.listening, seen.scans, seen.state)
    metrics.write(directory, PREFIX, look(parts), "host")
    if updates_due(directory / "updates.prom", time.time()):
        metrics.write(directory, PREFIX, look([updates]), "updates")


if __name__ == "__main__":
    main()
