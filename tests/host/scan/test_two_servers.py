"""Two servers of an inventory scan each other. The host under test scans real1 (SCANNED); both must be provisioned."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator

import pytest
import testinfra
from outside import ECHO

from lab import OPEN_FROM_OUTSIDE, ROOT, Server, wait_until

CONFIG, RECORD = "/etc/openmates/scan.json", "/var/lib/openmates/scan.json"
METRICS = "/var/lib/openmates/metrics/scan.prom"
UNDECLARED = 6000
QUICK = {"concurrency": 16384, "confirm_seconds": 0}  # the lab's network stands it


@pytest.fixture(scope="module")
def other() -> Server:
    return Server(testinfra.get_host(f"docker://openmates-lab-{os.environ.get('SCANNED', 'real1')}"))


@pytest.fixture(scope="module")
def pair(server, other) -> Iterator[tuple[Server, Server]]:
    """Both provisioned in one run, and in a hurry."""
    done = provisioned(server, other)
    assert done.returncode == 0, done.stdout[-3000:]
    kept = server.run(f"cat {CONFIG}")
    server.run(f"echo '{json.dumps(json.loads(kept) | QUICK)}' > {CONFIG}")
    yield server, other
    server.run(f"cat > {CONFIG} <<'END'\n{kept}\nEND")


def provisioned(*servers: Server):
    names = ",".join(one.name for one in servers)
    given = ["-i", "inventories/lab", "--limit", names, "--tags", "monitoring"]
    return servers[0].operator.run("ansible-playbook", ROOT / "site.yml", *given)


def changes(run) -> set[str]:
    return {word for word in run.stdout.split() if word.startswith("changed=")}


def scan(server: Server) -> str:
    server.run("systemctl start openmates-scan.service")
    return server.run(f"cat {METRICS}")


def firing(server: Server) -> set[str]:
    found = json.loads(server.run("curl -sfg http://172.30.0.13:9090/api/v1/alerts"))["data"]["alerts"]
    return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


def status(server: Server):
    return server.playbook("playbooks/status.yml")


@contextlib.contextmanager
def firewall_changed(server: Server, command: str) -> Iterator[None]:
    """A rule of the firewall is another one, and what restores it is stopped."""
    server.run("systemctl stop openmates-firewall-watch.timer openmates-firewall-watch.service")
    try:
        server.run(command)
        yield
    finally:
        server.run("systemctl reload openmates-firewall.service")
        server.run("systemctl start openmates-firewall-watch.timer")


def test_each_has_what_the_other_declares_and_a_second_run_changes_nothing(server, other):
    done = provisioned(server, other)
    assert done.returncode == 0, done.stdout[-3000:]
    for scanner, scanned in ((server, other), (other, server)):
        declared = json.loads(scanner.run(f"cat /etc/openmates/scan/{scanned.name}.json"))
        assert set(declared["ports"]) == OPEN_FROM_OUTSIDE[scanned.environment]
        assert set(declared["addresses"]) == set(scanned.addresses)
        assert scanner.run("systemctl is-enabled openmates-scan.timer") == "enabled"
    assert changes(provisioned(server, other)) == {"changed=0"}
    assert changes(provisioned(server)) == {"changed=0"}, "a run for one of them keeps what is known of the other"


def test_a_port_that_is_open_without_a_declaration_is_an_alert_until_it_is_closed(pair):
    server, other = pair
    labels = [f'scanned="{other.name}",address="{address}"' for address in other.addresses]
    server.run(f"rm -f {RECORD}")
    first = scan(server)
    assert all(f"openmates_scan_unexpected_ports{{{label}}} 0" in first for label in labels), first
    other.run(f"systemd-run --collect --unit=undeclared python3 -c '{ECHO}' {UNDECLARED}")
    try:
        server.run(f"rm -f {RECORD}")
        assert "openmates_scan_unexpected_port{" not in scan(server), "the firewall still keeps it closed"
        with firewall_changed(other, f"nft insert rule inet openmates ports tcp dport {UNDECLARED} accept"):
            server.run(f"rm -f {RECORD}")
            found = scan(server)
            for label in labels:
                assert f'openmates_scan_unexpected_port{{{label},port="{UNDECLARED}"}} 1' in found
            wait_until(lambda: "PortOpen" in firing(server), "the alert fires", 45)
            run = status(server)
            assert run.returncode != 0 and f"port {UNDECLARED} is open and not declared" in run.stdout, run.stdout
        scan(server)
        wait_until(lambda: "PortOpen" not in firing(server), "the alert ends", 45)
    finally:
        other.run("systemctl stop undeclared")


def test_a_server_that_does_not_answer_is_never_green_and_sshd_does_not_turn_the_scanner_away(pair):
    server, other = pair
    with firewall_changed(other, "nft flush chain inet openmates ports"):
        server.run(f"rm -f {RECORD}")
        found = scan(server)
    for address in other.addresses:
        label = f'scanned="{other.name}",address="{address}"'
        assert f"openmates_scan_reachable{{{label}}} 0" in found and f"openmates_scan_success{{{label}}} 0" in found
    seen = time.time()
    found = scan(server)
    assert "openmates_scan_reachable" in found and "} 0\n" not in found.partition("scan_reachable")[2].partition("#")[0]
    assert json.loads(server.run(f"cat {RECORD}"))["results"][0]["seen"] > seen
    banner = f"bash -c 'exec 3<>/dev/tcp/{other.addresses[0]}/22; timeout 5 head -c 4 <&3'"
    assert server.run(banner) == "SSH-"
