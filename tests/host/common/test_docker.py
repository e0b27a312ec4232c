"""The Docker daemon: its settings are in force, and a restart does not disturb containers."""

from __future__ import annotations

import ipaddress
import json

import pytest

from lab import LONG_RUNNING, SERVICE_PORTS, wait_until

POOL = ipaddress.ip_network("172.29.0.0/16")
# Of the service's container from before: a container that came back by itself is another process.
ALIVE = "docker ps --no-trunc --format '{{.ID}}' | sort | xargs docker inspect --format '{{.Name}} {{.State.Pid}}'"


@pytest.fixture(scope="module")
def image(server) -> str:
    """An image that is on the host already and has Python."""
    return server.containers()["api"]["Image"]


@pytest.fixture
def run_container(server, image):
    """Start a container of that image with these options; gone after the test."""
    started = []

    def run(options: str, command: str = "sleep infinity") -> dict:
        started.append(server.run(f"docker run --detach --rm --entrypoint= {options} {image} {command}"))
        return json.loads(server.run(f"docker inspect {started[-1]}"))[0]

    yield run
    server.run(f"docker rm --force {' '.join(started)}")


@pytest.fixture
def network(server):
    """A network without options."""
    server.run("docker network create strangers")
    yield "strangers"
    server.run("docker network rm strangers")


def bound_to(container: dict) -> set[str]:
    return {binding["HostIp"] for ports in container["NetworkSettings"]["Ports"].values() for binding in ports or []}


def test_the_daemon_s_settings_are_in_force(server):
    info = json.loads(server.run("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    assert "name=no-new-privileges" in info["SecurityOptions"]
    assert any(option.startswith("name=seccomp") for option in info["SecurityOptions"])
    assert info["DefaultAddressPools"] == [{"Base": str(POOL), "Size": 24}]


def test_no_process_stands_between_a_client_and_a_published_port(server):
    assert server.run("docker ps --format '{{.Ports}}' | grep -c -- '->'") != "0"
    assert server.run("pgrep --list-full docker-proxy || true") == ""


def test_a_port_published_by_a_stranger_is_bound_to_loopback(network, run_container):
    for options in ("--publish 18081:80", f"--network {network} --publish 18082:80"):
        assert bound_to(run_container(options)) == {"127.0.0.1"}, options


def test_a_new_network_keeps_to_its_pool(server, network):
    inspected = json.loads(server.run(f"docker network inspect {network}"))[0]
    assert ipaddress.ip_network(inspected["IPAM"]["Config"][0]["Subnet"]).subnet_of(POOL)


def test_containers_on_the_default_bridge_do_not_see_each_other(server, network, run_container):
    connect = "python3 -c \"import socket; socket.create_connection(('{}', 8000), 3)\""
    for options, reached in (("", False), (f"--network {network}", True)):
        listener = run_container(options, "python3 -m http.server 8000")
        there = f"docker exec {listener['Id']} {connect.format('127.0.0.1')}"
        wait_until(lambda command=there: server.host.run(command).rc == 0, "the listener listens", 60)
        address = next(iter(listener["NetworkSettings"]["Networks"].values()))["IPAddress"]
        visitor = run_container(options)["Id"]
        result = server.host.run(f"docker exec {visitor} {connect.format(address)}")
        assert (result.rc == 0) is reached, (options, result.stderr)


def test_only_root_may_use_the_socket(server):
    assert server.run("stat -c '%U:%G %a' /run/docker.sock") == "root:docker 660"
    assert server.run("getent group docker").endswith(":")


def test_a_member_of_the_group_docker_is_refused(server):
    server.run("gpasswd --add nobody docker")
    try:
        run = server.playbook("site.yml", "--tags", "docker")
    finally:
        server.run("gpasswd --delete nobody docker")
    assert run.returncode != 0
    assert "gpasswd --delete USER docker" in run.stdout


def test_a_configuration_that_the_daemon_refuses_is_not_put_in_place(server):
    before = server.run("cat /etc/docker/daemon.json")
    run = server.playbook("site.yml", "--tags", "docker", "-e", '{"docker_daemon_extra": {"live-restor": true}}')
    assert run.returncode != 0
    assert "live-restor" in run.stdout
    assert server.run("cat /etc/docker/daemon.json") == before


def test_a_restart_of_the_daemon_leaves_every_container_running_and_vault_open(server):
    before = server.run(ALIVE)
    assert len(before.splitlines()) == len(LONG_RUNNING) + 1  # the App
    server.run("systemctl restart docker")
    assert server.run(ALIVE) == before
    vault = server.containers()["vault"]["NetworkSettings"]["Networks"]["openmates"]["IPAddress"]
    health = f"http://{vault}:{SERVICE_PORTS['vault']}/v1/sys/health"
    assert server.run(f"curl -s -o /dev/null -w '%{{http_code}}' {health}") == "200"
    server.wait_until_ready()


CLAIMED = "192.0.2.77"  # of a network for documentation
NETWORKS = {
    "00-lab": "[Match]\nName=eth0\n[Link]\nUnmanaged=yes\n",  # the host's own card is Docker's outside
    "10-lab": f"[Match]\nType=ether\n[Network]\nAddress={CLAIMED}/32\n",
}


@pytest.fixture
def network_daemon(server):
    """Systemd-networkd with a file for every card, as images of some providers have it, and a pair of cards."""
    try:
        for name, text in NETWORKS.items():
            file = f"/etc/systemd/network/{name}.network"
            server.run(f"cat > {file} <<'END'\n{text}END\nchmod 0644 {file}")
        server.run("systemctl start systemd-networkd")
        server.run("ip link add vethlab type veth peer name lab1 && ip link set vethlab up && ip link set lab1 up")
        yield
    finally:
        server.run("ip link delete vethlab; systemctl stop systemd-networkd.socket systemd-networkd")
        server.run("rm /etc/systemd/network/*-lab.network")


def test_a_network_file_for_every_card_leaves_those_of_containers_alone(server, network_daemon):
    """Otherwise they would leave their bridge, and no container could be reached."""

    def has_it(cards: str) -> set[str]:
        return {
            line.split("@")[0] for line in server.run(f"ip -brief address show {cards}").splitlines() if CLAIMED in line
        }

    wait_until(lambda: has_it("lab1"), "systemd-networkd has configured a card that is no container's")
    assert has_it("type veth") == {"lab1"}
