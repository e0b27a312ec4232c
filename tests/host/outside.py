"""Access to the server from outside: from the controller, as from the internet, and from a neighbour on its network."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lab import ROOT, inventory, wait_until

LAB = ROOT / ".lab"
# Tries to connect to each "address port" and prints, as JSON, those that accepted; UDP counts if it echoes.
CONNECT = """
import contextlib, json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(target):
    kind, address, port = target.split()
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
            s.settimeout(3 if kind == "tcp" else 1)
            s.connect((address, int(port)))
            if kind == "tcp":
                return True
            for _ in range(5):  # a datagram may be lost
                s.send(b"hello")
                with contextlib.suppress(TimeoutError):
                    return bool(s.recv(99))
            return False
    except OSError:
        return False
targets = sys.argv[1:]
with ThreadPoolExecutor(64) as pool:
    print(json.dumps([t for t, a in zip(targets, pool.map(answers, targets)) if a]))
"""
# Listens on a TCP and a UDP port, on every address of both families, and echoes.
ECHO = """
import socket, socketserver, sys, threading
port = int(sys.argv[1])
class Tcp(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address = socket.AF_INET6, True
class Udp(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.request, tuple):
            self.request[1].sendto(self.request[0], self.client_address)
        else:
            self.request.sendall(self.request.recv(99))
threading.Thread(target=Udp(("::", port), Echo).serve_forever).start()
Tcp(("::", port), Echo).serve_forever()
"""
# Sends UDP datagrams to a port of 127.0.0.1 as link-layer frames, which no routing table of the sender stops.
FORGE = """
import socket, struct, sys
interface, mac, source, port = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), sys.argv[3], int(sys.argv[4])
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
data = b"forged"
udp = struct.pack("!HHHH", 40000, port, 8 + len(data), 0) + data
addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1")
header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses
header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
    s.bind((interface, 0))
    own = s.getsockname()[4]
    for _ in range(3):
        s.send(mac + own + b"\\x08\\x00" + header + udp)
"""


def scan(server, ports: str = "1-65535") -> dict[str, set[int]]:
    """The open TCP ports of the server's addresses, by address, from outside and from where nothing is hidden."""
    file = ROOT / "plugins/modules/outside_probe.py"
    spec = importlib.util.spec_from_file_location("outside_probe", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parameters = {"ports": ports, "expected": [22, 80, 443], "timeout": 1.0, "concurrency": 16384, "deadline": 120.0}
    found = module.probe({"addresses": list(server.addresses), "web": [], **parameters})["addresses"]
    assert all(entry["reliable"] for entry in found.values()), found
    return {address: set(entry["open"]) for address, entry in found.items()}


def scan_udp(server) -> dict[str, set[int]]:
    """The UDP ports of the server's addresses that answer a datagram, by address."""
    sockets = {}
    for address in server.addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sockets[address] = socket.socket(family, socket.SOCK_DGRAM)
        sockets[address].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sockets[address].setblocking(False)
    found: dict[str, set[int]] = {address: set() for address in sockets}

    def collect() -> None:
        for address, connection in sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    found[address].add(connection.recvfrom(2048)[1][1])

    for _ in range(2):  # a datagram may be lost
        for port in range(1, 65536):
            for address, connection in sockets.items():
                while True:
                    try:
                        connection.sendto(b"hello", (address, port))
                        break
                    except BlockingIOError:
                        collect()
            if port % 256 == 0:
                collect()
    while select.select(list(sockets.values()), [], [], 1)[0]:  # the last answers may be on their way
        collect()
    for connection in sockets.values():
        connection.close()
    return found


def answers(server, *targets: str) -> set[str]:
    """Which of the targets ("tcp 5432") answer the controller, each with the address: "tcp ADDRESS 5432"."""
    names = [f"{t.split()[0]} {address} {t.split()[1]}" for t in targets for address in server.addresses]
    run = subprocess.run(["python3", "-c", CONNECT, *names], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


@contextmanager
def without_the_table(server) -> Iterator[None]:
    """Removes the firewall, with its watch stopped, and restores both afterwards."""
    server.run("systemctl stop openmates-firewall-watch.timer openmates-firewall-watch.service")
    try:
        server.run("nft delete table inet openmates")
        yield
    finally:
        server.run("systemctl reload openmates-firewall.service")
        server.run("systemctl start openmates-firewall-watch.timer")


class Neighbour:
    """A foreign machine on the server's network: the lab's host image, a hundred addresses above the server's."""

    def __init__(self, server: str) -> None:
        self.name = f"openmates-lab-neighbour-of-{server}"
        v4, v6 = (address.rpartition(separator) for address, separator in zip(inventory(server)[1], ".:", strict=True))
        number = int(v4[2]) + 100
        self.addresses = (f"{v4[0]}.{number}", f"{v6[0]}:{number}")

    def start(self) -> None:
        self.remove()
        capabilities = yaml.safe_load((ROOT / "lab/vars.yml").read_text())["lab_capabilities"]
        command = ["docker", "run", "--detach", "--name", self.name, "--hostname", "neighbour"]
        command += ["--network", "openmates-lab", "--ip", self.addresses[0], "--ip6", self.addresses[1]]
        command += ["--cap-drop", "all", *(f"--cap-add={name}" for name in capabilities)]
        command += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
        command += ["--cgroupns", "private", "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock"]
        command += ["--sysctl", "net.ipv6.conf.all.disable_ipv6=0"]
        command += ["--env", f"LAB_AUTHORIZED_KEYS={(LAB / 'id_ed25519.pub').read_text().strip()}"]
        subprocess.run([*command, "openmates-lab/host:latest"], check=True, capture_output=True)
        wait_until(lambda: self.try_run("systemctl is-active ssh").stdout == "active\n", "the neighbour is up", 120)

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], check=False, capture_output=True)

    def try_run(self, command: str) -> subprocess.CompletedProcess:
        command = ["docker", "exec", self.name, "sh", "-c", command]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def run(self, command: str) -> str:
        """Standard output of a command on the neighbour; fails the test if the command fails."""
        done = self.try_run(command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def python(self, program: str, *arguments: str) -> str:
        command = ["docker", "exec", self.name, "python3", "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def reaches(self, *targets: str) -> set[str]:
        """Which of the targets ("tcp 172.30.0.5 5432") accept a connection from here."""
        return set(json.loads(self.python(CONNECT, *targets)))


class Ssh:
    """Logins to the server, each of them new."""

    def __init__(self, server, config: Path) -> None:
        self.server = server
        config.write_text(
            f"Host {server.name}\n  HostName {server.addresses[0]}\n  User admin\n"
            f"Host *\n  IdentityFile {LAB.resolve()}/id_ed25519\n  UserKnownHostsFile {LAB.resolve()}/known_hosts\n"
            "  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n  ControlPath none\n  BatchMode yes\n"
            "  ConnectTimeout 20\n"
        )
        self.config = config

    def command(self, *arguments: str) -> list[str]:
        return ["ssh", "-F", str(self.config), *arguments]

    def __call__(self, *arguments: str, text: str = "", seconds: float = 60) -> subprocess.CompletedProcess:
        """Run ssh with these arguments; `text` goes to its standard input."""
        try:
            return subprocess.run(
                self.command(*arguments), input=text, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            output = [(part or b"").decode() for part in (error.stdout, error.stderr)]
            return subprocess.CompletedProcess(arguments, -1, *output)

    def works(self) -> bool:
        """Whether the administrator can log in now and use sudo."""
        return self(self.server.name, "sudo -n true").returncode == 0

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
