"""The server scans the others of its inventory from outside. A neighbour stands in for one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from outside import ECHO

CONFIG, TARGETS, METRICS = "/etc/openmates/scan.json", "/etc/openmates/scan", "/var/lib/openmates/metrics/scan.prom"
UNDECLARED = 6000


@pytest.fixture(scope="module")
def peer(server, neighbour) -> Iterator:
    """The neighbour is a server of the inventory: it has sshd, which it declares, and no firewall."""
    config = json.loads(server.run(f"cat {CONFIG}"))
    declared = json.dumps({"addresses": neighbour.addresses, "ports": [22], "restricted": []})
    changed = json.dumps(config | {"servers": ["neighbour"], "confirm_seconds": 0})
    server.run(f"cp -p {CONFIG} /root/scan.kept && mkdir -p {TARGETS} && rm -f /var/lib/openmates/scan.json")
    server.run(f"echo '{declared}' > {TARGETS}/neighbour.json && echo '{changed}' > {CONFIG}")
    yield neighbour
    neighbour.try_run("systemctl stop undeclared")
    server.run(f"mv /root/scan.kept {CONFIG} && rm -f {TARGETS}/neighbour.json /var/lib/openmates/scan.json {METRICS}")


def scan(server) -> str:
    """The metrics after a run of the unit, with its sandbox and limits."""
    server.run("systemctl start openmates-scan.service")
    return server.run(f"cat {METRICS}")


def test_a_port_that_another_server_does_not_declare_is_found_over_both_families(server, peer):
    listening = f"systemd-run --collect --unit=undeclared python3 -c '{ECHO}' {UNDECLARED}"
    peer.run(listening)
    peer.run(f"until ss -Hltn 'sport = :{UNDECLARED}' | grep -q .; do sleep 0.1; done")
    found = scan(server)
    for address in peer.addresses:
        labels = f'scanned="neighbour",address="{address}"'
        assert f'openmates_scan_unexpected_port{{{labels},port="{UNDECLARED}"}} 1' in found
        assert f"openmates_scan_success{{{labels}}} 1" in found
    given = ["-e", f"scan_servers={','.join(peer.addresses)}", "-e", "scan_ports=22"]
    run = server.operator.run("ansible-playbook", server.operator.playbook("playbooks/scan.yml"), *given)
    assert run.returncode != 0 and f"Port {UNDECLARED} must be closed" in run.stdout, "what needs no login finds it too"
    peer.run("systemctl stop undeclared")
    assert "openmates_scan_unexpected_port{" not in scan(server), "what was wrong is due with the next start"
    banner = f"bash -c 'exec 3<>/dev/tcp/{peer.addresses[0]}/22; timeout 5 head -c 4 <&3'"
    assert server.run(banner) == "SSH-", "sshd turns the scanner away"
