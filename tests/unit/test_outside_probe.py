"""The outside probe against real sockets on this machine's loopback addresses."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import tcp_scan
from ansible_collections.openmates.server.plugins.modules import outside_probe

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def listener(address: str, listens: bool = True) -> Iterator[int]:
    """A port that accepts, as the kernel does for a program that listens; or one that is taken and refuses."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        if listens:
            server.listen(16)
        yield server.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[tuple[int, Callable[[], None]]]:
    """A port whose queue is full, so that the kernel stops answering, and a function that empties it."""
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        server.setblocking(False)
        for _number in range(4):
            filler = queue.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())

        def make_room() -> None:
            queue.close()
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()

        yield server.getsockname()[1], make_room


def probe(addresses: list[str], ports: str, **more: object) -> dict:
    """The module's work with its own defaults."""
    parameters = {
        "addresses": addresses,
        "ports": ports,
        "expected": [],
        "timeout": 0.3,
        "concurrency": 256,
        "deadline": 30.0,
        "web": [],
        "web_timeout": 5.0,
        "web_wait": 0.0,
    }
    return outside_probe.probe(parameters | more)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_open_and_closed_ports_are_distinguished(address: str) -> None:
    with listener(address) as first, listener(address) as second, listener(address, listens=False) as closed:
        seen = probe([address], f"{first},{second},{closed}")["addresses"][address]
    assert seen["open"] == sorted([first, second])
    assert (seen["closed"], seen["silent"], seen["errors"]) == (1, 0, {})
    assert seen["reachable"] and seen["reliable"] and seen["answered"]


def test_every_port_of_both_families() -> None:
    with listener("127.0.0.1") as v4, listener("::1") as v6:
        seen = probe(["127.0.0.1", "::1"], "1-65535", concurrency=4096, deadline=120.0)["addresses"]
    assert v4 in seen["127.0.0.1"]["open"]
    assert v6 in seen["::1"]["open"]
    for entry in seen.values():
        assert len(entry["open"]) + entry["closed"] + entry["silent"] == 65535
        assert entry["reliable"], entry["reason"]


def test_silence_is_not_mistaken_for_an_answer() -> None:
    with silent_port() as (silent, _), listener("127.0.0.1") as port:
        seen = probe(["127.0.0.1"], f"{silent},{port}", expected=[port])["addresses"]["127.0.0.1"]
    assert (seen["open"], seen["silent"]) == ([port], 1)


def test_an_expected_port_gets_more_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[list[int], float]] = []

    def sweep(_self: object, ports: object, timeout: float) -> list[int]:
        tries.append((list(ports), timeout))
        return tries[-1][0]

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    seen = tcp_scan.scan("127.0.0.1", [1, 2], [2], 1.0, 16, 10.0)
    assert tries == [([2], 1.0), ([1], 2.0), ([], 2.0), ([2], 3.0)]
    assert (seen["answered"], seen["silent"]) == (False, 2)


def test_a_lost_packet_hides_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port's queue is full when the first SYN comes, and empty when the system sends the second."""
    with silent_port() as (port, make_room):
        start = tcp_scan.Scanner._start

        def first_is_lost(self: tcp_scan.Scanner, number: int) -> socket.socket | None:
            connection = start(self, number)
            make_room()
            return connection

        monkeypatch.setattr(tcp_scan.Scanner, "_start", first_is_lost)
        seen = tcp_scan.scan("127.0.0.1", [port], [], 0.3, 16, 10.0)
    assert (seen["open"], seen["silent"]) == ([port], 0)


def test_ports_that_a_router_refused_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[list[int]] = []

    def sweep(self: tcp_scan.Scanner, ports: object, _timeout: float) -> list[int]:
        tries.append(sorted(ports))
        if len(tries) == 2:  # after the expected ports: a router has not found the host yet
            self._record(7, tcp_scan.errno.EHOSTUNREACH)
        else:
            self._record(7, 0)
        return [port for port in tries[-1] if port not in self.open]

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    seen = tcp_scan.scan("127.0.0.1", [7, 9], [], 1.0, 16, 10.0)
    assert tries[:3] == [[], [7, 9], [7]]
    assert (seen["open"], seen["silent"], seen["reliable"]) == ([7], 1, True)


def test_ports_that_fall_silent_make_the_result_unreliable(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[int]] = []

    def sweep(self: object, ports: object, _timeout: float) -> list[int]:
        calls.append(list(ports))
        if len(calls) == 1:
            self.open.add(22)
            return []
        return calls[-1]

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    seen = tcp_scan.scan("127.0.0.1", [7, 22], [22], 1.0, 16, 10.0)
    assert not seen["reliable"]
    assert "lower the concurrency" in seen["reason"]


def test_an_address_without_a_route_is_unreachable_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "this machine has no IPv6 route to it (Network is unreachable)"
    for module in (tcp_scan, outside_probe):
        monkeypatch.setattr(module, "no_way", lambda address: reason if ":" in address else "")
    with listener("127.0.0.1") as port:
        seen = probe(["127.0.0.1", "2001:db8::1"], str(port))["addresses"]
    assert seen["127.0.0.1"]["open"] == [port]
    assert (seen["2001:db8::1"]["reachable"], seen["2001:db8::1"]["reason"]) == (False, reason)


def test_a_missing_route_is_explained_with_the_systems_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_self: object, _target: object) -> None:
        raise OSError(tcp_scan.errno.ENETUNREACH, "Network is unreachable")

    assert tcp_scan.no_way("127.0.0.1") == ""
    monkeypatch.setattr(tcp_scan.socket, "socket", type("Deaf", (socket.socket,), {"connect": connect}))
    assert "no IPv6 route" in tcp_scan.no_way("2001:db8::1")


def test_what_answers_on_every_port_is_not_taken_for_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a transparent proxy does. The scan ends early: its result would be 65535 open ports."""
    tried: list[int] = []

    def sweep(self: tcp_scan.Scanner, ports: object, _timeout: float) -> list[int]:
        tried.extend(ports)
        self.open.update(tried)
        return []

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    seen = tcp_scan.scan("127.0.0.1", list(range(1, 65536)), [22, 443], 1.0, 4096, 10.0)
    assert (seen["intercepted"], seen["reliable"], seen["open"]) == (True, False, [])
    assert "32 of 32 random ports accept" in seen["reason"] and len(tried) == 34


def test_a_server_with_many_open_ports_is_not_taken_for_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep(self: tcp_scan.Scanner, ports: object, _timeout: float) -> list[int]:
        self.open.update(port for port in ports if port % 2)
        return [port for port in ports if not port % 2]

    monkeypatch.setattr(tcp_scan.Scanner, "sweep", sweep)
    monkeypatch.setattr(tcp_scan.random, "shuffle", lambda ports: None)
    seen = tcp_scan.scan("127.0.0.1", list(range(1, 201)), [22], 1.0, 4096, 10.0)
    assert (seen["intercepted"], len(seen["open"])) == (False, 100)


def with_file_limit(limit: int, job: Callable[[], object]) -> object:
    """The result of a function in a process that may open so many files, and cannot raise that."""

    def work() -> dict:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        return {"result": job()}

    process, receiver = outside_probe.in_process(work, multiprocessing.get_context("fork"))
    found = receiver.recv()
    process.join()
    return found["result"]


def test_no_more_connections_are_under_way_than_files_can_be_open() -> None:
    """Also where the limit is another one than the system says: nothing is reported as a port's error."""
    with silent_port() as (silent, _):

        def sweep() -> tuple:
            scanner = tcp_scan.Scanner("127.0.0.1", 4096, 30.0)
            return len(scanner.sweep([silent] * 300, 0.1)), scanner.errors, scanner.concurrency

        undecided, errors, concurrency = with_file_limit(120, sweep)
    assert (undecided, errors) == (300, {})
    assert concurrency < 120


def test_the_limit_of_open_files_decides_how_many_connections_are_made() -> None:
    assert with_file_limit(200, lambda: tcp_scan.raise_file_limit(16384)) == 200 - tcp_scan.SPARE_FILES


def test_a_limit_below_the_one_that_is_reported_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS reports no hard limit, and refuses a soft one above kern.maxfilesperproc."""
    limits = [256]

    def setrlimit(_which: int, limit: tuple[int, int]) -> None:
        if limit[0] > 10240:
            raise ValueError("current limit exceeds maximum limit")
        limits[0] = limit[0]

    monkeypatch.setattr(tcp_scan.resource, "getrlimit", lambda _which: (limits[0], resource.RLIM_INFINITY))
    monkeypatch.setattr(tcp_scan.resource, "setrlimit", setrlimit)
    assert 4096 < tcp_scan.raise_file_limit(16384) <= 10240
    assert limits[0] <= 10240


def test_a_scan_that_a_low_limit_makes_too_slow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_scan, "raise_file_limit", lambda _wanted: 16)
    with silent_port() as (silent, _):
        seen = tcp_scan.scan("127.0.0.1", [silent], [], 20.0, 16384, 0.01)
    assert not seen["reliable"]
    assert "allows 16 connections at a time" in seen["reason"] and "ulimit -n" in seen["reason"]


def test_it_ends_at_its_deadline() -> None:
    with silent_port() as (silent, _):
        seen = probe(["127.0.0.1"], str(silent), timeout=20.0, deadline=0.01)["addresses"]["127.0.0.1"]
    assert not seen["reliable"]
    assert "not every port was tried" in seen["reason"] and "ulimit" not in seen["reason"]
    assert seen["elapsed"] < 10


@pytest.mark.parametrize(("text", "ports"), [("22", [22]), ("80-82, 22", [22, 80, 81, 82]), ("", [])])
def test_parse_ports(text: str, ports: list[int]) -> None:
    assert tcp_scan.parse_ports(text) == ports


@pytest.mark.parametrize("text", ["0", "65536", "9-8", "x", "1-2-3"])
def test_parse_ports_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|within"):
        tcp_scan.parse_ports(text)


def run_module(arguments: dict, check: bool = False) -> tuple[int, dict]:
    """The module as Ansible runs it: arguments on standard input, JSON on standard output."""
    full = {"ANSIBLE_MODULE_ARGS": arguments | {"_ansible_check_mode": check}}
    code = (
        "import sys\n"
        "from ansible.plugins.loader import init_plugin_loader\n"
        "from ansible.module_utils import basic\n"
        f"init_plugin_loader([{str(ROOT / 'collections')!r}])\n"
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read()\n"
        "basic._ANSIBLE_PROFILE = 'legacy'\n"
        "from ansible_collections.openmates.server.plugins.modules import outside_probe\n"
        "outside_probe.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(full).encode(), capture_output=True, timeout=60, check=False
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("check", [False, True])
def test_the_module_runs_in_check_mode_too_and_changes_nothing(check: bool) -> None:
    with listener("127.0.0.1") as port:
        code, result = run_module({"addresses": ["127.0.0.1"], "ports": str(port)}, check)
    assert (code, result["changed"], result["addresses"]["127.0.0.1"]["open"]) == (0, False, [port])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"addresses": ["nonsense"]}, "nonsense"),
        ({"addresses": ["127.0.0.1"], "ports": "99999"}, "99999"),
        ({"addresses": ["127.0.0.1"], "timeout": 0}, "timeout"),
    ],
)
def test_bad_arguments_fail_with_a_message(arguments: dict, words: str) -> None:
    code, result = run_module(arguments)
    assert code == 1
    assert words in result["msg"]
