"""Only declared ports are reachable, for any service on the host and after any change of its rules."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from outside import CONNECT, ECHO, FORGE, Neighbour, answers, scan, scan_udp, without_the_table

from lab import OPEN_FROM_OUTSIDE, wait_until

DECLARED = OPEN_FROM_OUTSIDE["prod"]
METADATA = "169.254.169.254"
#: Containers that an operator might start by mistake: port and how it is published.
PLANTED = {
    5432: "--publish 0.0.0.0:5432:5432 --publish 0.0.0.0:5432:5432/udp",
    6379: "--publish [::]:6379:6379 --publish [::]:6379:6379/udp",
    9999: "--network host",
}
#: The same, without a container.
LISTENER = 9998


def in_container(server, name: str, *targets: str) -> set[str]:
    """Which of the targets accept a connection from within a container."""
    arguments = " ".join(shlex.quote(target) for target in targets)
    return set(json.loads(server.run(f"docker exec {name} python3 -c {shlex.quote(CONNECT)} {arguments}")))


@contextmanager
def keeping_the_labs_names(server) -> Iterator[None]:
    """A container's name server is a few rules of the host, which only the engine can restore."""
    rules = server.run("iptables-save -t nat | grep -e '^:DOCKER_' -e '^-A DOCKER_' -e 127.0.0.11")
    try:
        yield
    finally:
        lines = shlex.quote(f"*nat\n{rules}\nCOMMIT")
        server.run(f"echo {lines} | iptables-restore --noflush")


@pytest.fixture(scope="module")
def planted(server) -> Iterator[set[str]]:
    """What must not be reached, running; yields it as targets."""
    image = server.containers()["api"]["Image"]
    names = [f"planted-{port}" for port in PLANTED]
    try:
        for (port, options), name in zip(PLANTED.items(), names, strict=True):
            server.run(
                f"docker run --detach --restart always --name {name} {options} --entrypoint python3 {image} "
                f"-c {shlex.quote(ECHO)} {port}"
            )
        server.run(f"systemd-run --unit planted-listener python3 -c {shlex.quote(ECHO)} {LISTENER}")
        for port, name in zip(PLANTED, names, strict=True):
            inside = f"nsenter --net --target $(docker inspect {name} --format '{{{{.State.Pid}}}}')"
            listens = f"{inside} ss -Hltun sport = :{port} | wc -l"
            wait_until(lambda command=listens: server.run(command).strip() == "2", f"{name} listens", 30)
        wait_until(lambda: server.run(f"ss -Hltun sport = :{LISTENER} | wc -l").strip() == "2", "the listener listens")
        yield {f"{kind} {port}" for kind in ("tcp", "udp") for port in (*PLANTED, LISTENER)}
    finally:
        server.run(f"docker rm --force {' '.join(names)}; systemctl stop planted-listener; true")


# ---------------------------------------------------------------- from outside


def test_without_the_firewall_the_binds_are_right_by_themselves(server):
    with without_the_table(server):
        assert scan(server) == dict.fromkeys(server.addresses, DECLARED)


def test_the_firewall_counts_the_attempts_that_it_drops(server):
    """verify compares them with those that it made: attempts that never arrive prove nothing about the server."""

    def dropped() -> dict[str, int]:
        found = json.loads(server.run("nft --json list counters table inet openmates"))["nftables"]
        counters = [entry["counter"] for entry in found if "counter" in entry]
        return {counter["name"]: counter["packets"] for counter in counters}

    before = dropped()
    assert scan(server) == dict.fromkeys(server.addresses, DECLARED)
    after = dropped()
    assert before.keys() == {"closed_ipv4", "closed_ipv6"}
    assert {name: after[name] - before[name] > 60_000 for name in before} == dict.fromkeys(before, True)


def test_without_the_firewall_what_is_planted_answers(server, planted):
    """Otherwise the tests below could not fail. Without IPv6 for containers there is no listener behind [::]:6379."""
    ipv4, ipv6 = server.addresses
    expected = {f"{target.split()[0]} {ipv4} {target.split()[1]}" for target in planted if "6379" not in target}
    expected |= {f"{kind} {ipv6} {port}" for kind in ("tcp", "udp") for port in (9999, LISTENER)}
    with without_the_table(server):
        assert expected <= answers(server, *planted)


def test_with_it_only_declared_ports_answer_whatever_is_planted(server, planted):
    assert scan(server) == dict.fromkeys(server.addresses, DECLARED)
    assert scan_udp(server) == {address: set() for address in server.addresses}


def test_after_a_restart_of_docker_still_only_declared_ports_answer(server, planted):
    server.run("systemctl restart docker")
    wait_until(lambda: "5432" in server.run("docker ps --format '{{.Ports}}'"), "the planted containers run again")
    assert scan(server) == dict.fromkeys(server.addresses, DECLARED)


def test_after_iptables_are_flushed_still_only_declared_ports_answer(server, planted):
    server.run("iptables -F && ip6tables -F")
    assert scan(server) == dict.fromkeys(server.addresses, DECLARED)
    wait_until(lambda: "-j DOCKER" in server.run("iptables -S FORWARD"), "Docker's rules are back", 60)
    watch = "systemctl is-active openmates-firewall-watch.service || true"
    wait_until(lambda: server.run(watch).strip() == "inactive", "the watch is done", 60)


def test_after_all_rules_are_flushed_everything_comes_back_by_itself(server, planted):
    with keeping_the_labs_names(server):
        server.run("nft flush ruleset")
        wait_until(lambda: server.host.run("nft list table inet openmates").rc == 0, "the table is back", 60)
        wait_until(lambda: "-N DOCKER\n" in server.run("iptables -t nat -S"), "Docker's rules are back", 60)
    site = f"curl -sf -m 2 --insecure --resolve {server.domain}:443:127.0.0.1 https://{server.domain}/v1/health"
    wait_until(lambda: server.host.run(site).rc == 0, "the site answers", 60)
    assert scan(server) == dict.fromkeys(server.addresses, DECLARED)
    told = "journalctl --unit openmates-firewall-watch --boot --no-pager"
    wait_until(lambda: "removed or altered" in server.run(told), "the watch says what it saw", 20)


def test_rules_that_are_flushed_again_while_docker_brings_its_own_back_come_back_too(server):
    """Systemd's start limit, here as strict as possible, does not keep Docker down either."""
    drop_ins = "/run/systemd/system/docker.service.d"
    command = f"sh -c 'nft flush ruleset; rm {drop_ins}/flush.conf; systemctl daemon-reload'"
    server.run(
        f"mkdir -p {drop_ins} && printf '[Service]\nExecStartPost=%s\n' {shlex.quote(command)} > {drop_ins}/flush.conf"
    )
    server.run(f"printf '[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=600\n' > {drop_ins}/limit.conf")
    try:
        with keeping_the_labs_names(server):
            server.run("systemctl daemon-reload && nft flush ruleset")
            flush = server.host.file(f"{drop_ins}/flush.conf")
            wait_until(lambda: not flush.exists, "Docker is restarted, and all is flushed again", 120)
            wait_until(lambda: "-N DOCKER\n" in server.run("iptables -t nat -S"), "Docker's rules are back", 60)
            wait_until(lambda: server.host.run("nft list table inet openmates").rc == 0, "the table is back", 60)
    finally:
        server.run(f"rm -r {drop_ins} && systemctl daemon-reload && systemctl reset-failed docker.service")


def test_a_rule_added_by_hand_does_not_stay(server):
    assert "5432" in server.run("nft --echo insert rule inet openmates ports tcp dport 5432 accept")
    wait_until(lambda: "5432" not in server.run("nft list table inet openmates"), "the rule is gone", 60)


def test_neighbours_cannot_reach_containers_by_a_route_to_their_address(server, neighbour, planted):
    address = server.run("docker inspect planted-5432 --format '{{.NetworkSettings.IPAddress}}'")
    neighbour.run(f"ip route replace {address} via {server.addresses[0]}")
    targets = {f"tcp {address} 5432", f"udp {address} 5432"}
    assert neighbour.reaches(*targets) == set()
    with without_the_table(server):
        server.run("iptables -I FORWARD -j ACCEPT")  # Docker's own rules close some of it
        reached = neighbour.reaches(*targets)
        server.run("iptables -D FORWARD -j ACCEPT")
    assert reached == targets


def test_forged_packets_for_the_loopback_address_are_dropped(server, neighbour, planted):
    """A listener on 127.0.0.1 counts datagrams, and the kernel is told to take them from outside, as Docker may do."""
    server.run("sysctl -qw net.ipv4.conf.all.route_localnet=1")
    interface = server.run(f"ip -o route get {neighbour.addresses[0]}").split(" dev ")[1].split()[0]
    mac = server.run(f"cat /sys/class/net/{interface}/address")
    program = (
        "import socket; s = socket.socket(type=2); s.bind(('127.0.0.1', 9997)); s.recv(99); open('/run/forged', 'w')"
    )
    server.run(f"rm -f /run/forged; systemd-run --unit planted-loopback python3 -c {shlex.quote(program)}")
    try:
        wait_until(lambda: server.run("ss -Hlun sport = :9997"), "the listener on 127.0.0.1 listens")

        def forge() -> None:
            neighbour.python(FORGE, "eth0", mac, neighbour.addresses[0], "9997")

        def arrived() -> bool:
            return "packets 3 " in server.run("nft list table inet counting")

        def received() -> bool:
            return server.host.file("/run/forged").exists

        # A separate table: the watch would revert a chain in the firewall's table.
        server.run("nft add table inet counting")
        server.run("nft 'add chain inet counting forged { type filter hook prerouting priority raw; }'")
        server.run("nft add rule inet counting forged ip daddr 127.0.0.1 iif != lo counter")
        forge()
        wait_until(arrived, "the forged packets arrive")
        assert not received()
        with without_the_table(server):
            forge()
            wait_until(received, "the forged packets are received without the firewall")
    finally:
        server.run("systemctl stop planted-loopback; nft delete table inet counting; true")
        server.run("sysctl -qw net.ipv4.conf.all.route_localnet=0")


def test_pings_are_answered_but_not_a_flood(server, neighbour):
    for address in server.addresses:
        pings = f"ping -c 3 -i 0.2 {address}"  # not at once after the flood of the address before: both share the limit
        wait_until(lambda ping=pings: " 0% packet loss" in neighbour.try_run(ping).stdout, "pings are answered", 20)
        flood = neighbour.try_run(f"ping -q -c 400 -i 0.002 -W 1 {address}").stdout
        received = int(flood.split(" received")[0].split()[-1])
        assert 10 <= received <= 100, flood


# ---------------------------------------------------------------- from a container


@pytest.fixture(scope="module")
def metadata(server, neighbour) -> Iterator[Neighbour]:
    """The neighbour as a cloud's metadata service, and as a web server on the internet."""
    neighbour.run(f"ip address replace {METADATA}/32 dev eth0")
    neighbour.run(
        "systemctl is-active --quiet web || systemd-run --collect --unit web python3 -m http.server --bind :: 80"
    )
    server.run(f"ip route replace {METADATA} via {neighbour.addresses[0]}")
    wait_until(lambda: server.host.run(f"curl -sf -m 2 http://{METADATA}").rc == 0, "the host reaches the metadata")
    yield neighbour
    server.run(f"ip route del {METADATA}")
    neighbour.run(f"systemctl stop web && ip address del {METADATA}/32 dev eth0")


def host_services(server) -> set[str]:
    addresses = [server.addresses[0]]
    for network in ("bridge", "openmates"):
        addresses.append(
            server.run(f"docker network inspect {network} --format '{{{{(index .IPAM.Config 0).Gateway}}}}'")
        )
    return {f"tcp {address} {port}" for address in addresses for port in (22, 443, LISTENER)}


@pytest.mark.parametrize("network", ["bridge", "openmates"])
def test_containers_reach_the_internet_but_neither_metadata_nor_the_host(server, metadata, planted, network):
    name = "planted-5432"
    if network == "openmates":
        name = server.containers()["api"]["Name"].lstrip("/")
    internet = f"tcp {metadata.addresses[0]} 80"
    closed = {f"tcp {METADATA} 80", *host_services(server)}
    assert in_container(server, name, internet, *closed) == {internet}
    if network == "bridge":
        with without_the_table(server):
            assert in_container(server, name, internet, *closed) == {internet, *closed}


# ---------------------------------------------------------------- its place in the system


def test_docker_needs_it_and_it_comes_before_the_network(server):
    unit = server.run("systemctl show docker.service --property=Requires,After --value")
    assert unit.count("openmates-firewall.service") == 2
    before = server.run("systemctl show openmates-firewall.service --property=Before --value").split()
    assert "network-pre.target" in before
    started = server.run("systemctl show docker.service --property=InvocationID")
    server.run("systemctl reload openmates-firewall.service")
    assert server.host.run("systemctl restart openmates-firewall.service").rc != 0  # it would take Docker along
    assert server.run("systemctl show docker.service --property=InvocationID") == started


def test_the_watch_leaves_no_trace_while_all_is_well(server):
    """The watch runs every ten seconds."""
    last = "systemctl show openmates-firewall-watch.service --property=ExecMainExitTimestamp"
    traces = "journalctl --boot --no-pager | grep -c openmates-firewall-watch || true"
    looked, lines = server.run(last), server.run(traces)
    wait_until(lambda: server.run(last) != looked, "the watch has looked again")
    assert server.run(traces) == lines
