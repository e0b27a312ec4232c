"""What else is on a server is found before anything is changed, and does not hinder a server that we provisioned."""

from __future__ import annotations

import time

import pytest
from test_preflight import FACTS, good, problems


def listener(port: int, program: str, address: str = "0.0.0.0") -> dict:
    return {"port": port, "address": address, "program": program, "pid": 612}


PROVISIONED = {
    "prod": [
        *(listener(22, "sshd"), listener(80, "caddy", "::"), listener(443, "caddy", "::")),
        *(listener(port, "docker-proxy", "127.0.0.1") for port in (8000, 8001)),
        *(listener(53, "systemd-resolve", "127.0.0.53"), listener(2019, "caddy", "127.0.0.1")),
    ],
    "dev": [listener(22, "systemd"), *(listener(port, "docker-proxy") for port in (8000, 8055, 3001))],
}
ADDRESS = {"ipv4": {"address": "172.30.0.77", "prefix": "16", "netmask": "255.255.0.0"}}


def host(**state: object) -> dict:
    return {"listeners": [], "packages": {}, "uids": {"root": 0, "admin": 20000}, "time": time.time(), **state}


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_a_server_that_we_provisioned_is_no_problem(environment: str) -> None:
    bridge = {"interfaces": ["lo", "openmates0"], "openmates0": {"ipv4": {"address": "172.30.0.1", "prefix": "24"}}}
    state = host(listeners=PROVISIONED[environment], packages={"docker.io": "installed"})
    assert problems(good(environment), FACTS | bridge, host_state=state) == []


@pytest.mark.parametrize(
    ("environment", "taken", "words"),
    [
        ("prod", listener(80, "apache2"), ["port 80, which Caddy needs", "apache2 (process 612)"]),
        ("prod", listener(443, "nginx", "::"), ["port 443", "nginx"]),
        ("prod", listener(80, "", "127.0.0.1"), ["port 80", "another program"]),
        ("prod", listener(8001, "python3"), ["port 8001, which api needs", "python3"]),
        ("prod", listener(8000, "python3", "127.0.0.1"), ["port 8000"]),
        ("dev", listener(3001, "node", "192.0.2.7"), ["port 3001, which grafana needs", "node"]),
        ("dev", listener(22, "dropbear"), ["port 22, which SSH needs", "dropbear"]),
    ],
)
def test_a_port_that_is_taken_is_named_with_its_program(environment: str, taken: dict, words: list[str]) -> None:
    [found] = problems(good(environment), host_state=host(listeners=[taken]))
    assert found.startswith("This host: ") and all(word in found for word in words)


def test_ports_of_others_and_loopback_ports_at_another_address_are_no_problem() -> None:
    others = [listener(8000, "node", "192.0.2.7"), listener(8080, "node"), listener(3306, "mariadbd")]
    assert problems(good("prod"), host_state=host(listeners=others)) == []


def test_another_docker_is_named_with_the_command_that_removes_it() -> None:
    [found] = problems(good("prod"), host_state=host(packages={"docker-ce": "installed", "containerd.io": "installed"}))
    assert "sudo apt-get remove docker-ce containerd.io" in found


def test_an_administrator_with_the_number_of_containers_is_refused() -> None:
    settings = good("prod")
    settings["openmates_services"]["api"]["user"] = "1000:1000"
    [found] = problems(settings, host_state=host(uids={"admin": 1000}))
    assert "openmates_ssh_user" in found and "number 1000, which api run as" in found
    assert "openmates_ssh_initial_user to admin" in found
    assert problems(settings, host_state=host(uids={"someone": 1000})) == []


@pytest.mark.parametrize("kind", ["ipv4", "secondary"])
def test_a_network_of_the_host_that_overlaps_is_named_with_its_interface(kind: str) -> None:
    entry = ADDRESS if kind == "ipv4" else {"ipv4_secondaries": [ADDRESS["ipv4"]]}
    facts = FACTS | {"interfaces": ["lo", "wg-home"], "wg_home": entry}
    [found] = problems(good("prod"), facts, host_state=host())
    assert "openmates_subnet" in found and "172.30.0.0/16" in found and "wg-home" in found


def test_the_network_of_the_default_route_counts_as_a_whole() -> None:
    entry = {"ipv4": {"address": "172.16.0.5", "prefix": "12"}}
    facts = FACTS | {
        "interfaces": ["eth0"],
        "eth0": entry,
        "default_ipv4": {"interface": "eth0", "address": "172.16.0.5"},
    }
    [found] = problems(good("prod"), facts, host_state=host())
    assert "overlaps 172.16.0.0/12, the network of the host's interface eth0" in found


def test_an_overlap_of_ipv6_is_found() -> None:
    facts = FACTS | {"interfaces": ["d0"], "d0": {"ipv6": [{"address": "fd30:6f70:656e::7", "prefix": "64"}]}}
    [found] = problems(good("dev") | {"openmates_subnet_ipv6": "fd30:6f70:656e::/64"}, facts, host_state=host())
    assert found.startswith("openmates_subnet_ipv6")


@pytest.mark.parametrize(("seconds", "words"), [(86400 * 2, "48 hours ahead of"), (-600, "10 minutes behind")])
def test_a_clock_that_is_wrong_is_named(seconds: int, words: str) -> None:
    [found] = problems(good("prod"), host_state=host(time=time.time() + seconds))
    assert words in found and "sudo date --set" in found
    assert problems(good("prod"), host_state=host(time=time.time() + 60)) == []


KERNEL = [
    {"name": "kernel.kptr_restrict", "value": "2", "reason": ""},
    {"name": "net.ipv4.conf.*.rp_filter", "value": "1", "reason": ""},
]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kernel.kptr_restrict", "0", ["zzz.conf sets kernel.kptr_restrict = 0 at each boot", "name kernel.kptr"]),
        ("net.ipv4.conf.eth0.rp_filter", "2", ["rp_filter = 2", "net.ipv4.conf.*.rp_filter in openmates_hardening"]),
        ("kernel.kptr_restrict", "2", []),
        ("vm.swappiness", "10", []),
    ],
)
def test_a_file_that_overrules_the_kernel_settings_at_boot_is_named(name: str, value: str, words: list[str]) -> None:
    later = [{"path": "/etc/sysctl.d/zzz.conf", "name": name, "value": value}]
    found = problems(good("prod"), host_state=host(sysctl_later=later, kernel_settings=KERNEL))
    assert len(found) == bool(words) and all(word in " ".join(found) for word in words)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ufw", "sudo ufw disable"),
        ("firewalld", "sudo systemctl disable --now firewalld.service"),
        ("nftables", "sudo systemctl disable --now nftables.service"),
        ("netfilter-persistent", "sudo systemctl disable --now netfilter-persistent.service"),
    ],
)
def test_another_firewall_that_is_in_force_is_named_with_the_command_that_stops_it(name: str, command: str) -> None:
    [found] = problems(good("prod"), host_state=host(firewalls=[name]))
    assert f"the firewall {name} is in force" in found and command in found


@pytest.mark.parametrize(
    "name", ["podman-docker", "docker-ce-rootless-extras", "docker-compose-plugin", "moby-containerd"]
)
def test_packages_that_debians_docker_cannot_be_installed_beside(name: str) -> None:
    [found] = problems(good("prod"), host_state=host(packages={name: "installed"}))
    assert f"sudo apt-get remove {name}" in found


def test_a_docker_that_no_package_brought_is_named() -> None:
    [snap] = problems(good("prod"), host_state=host(other_engines=["/snap/bin/docker"]))
    assert "sudo snap remove docker" in snap
    [other] = problems(good("prod"), host_state=host(other_engines=["/usr/local/bin/dockerd"]))
    assert "/usr/local/bin/dockerd is another Docker" in other


def test_all_problems_are_reported_at_once() -> None:
    state = host(listeners=[listener(80, "apache2")], packages={"docker-ce": "installed"}, firewalls=["ufw"])
    assert len(problems(good("prod"), host_state=state)) == 3
