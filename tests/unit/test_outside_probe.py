"""The outside probe against sockets that are really there, on this machine's loopback addresses."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules import outside_probe
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]

NAME = "api.openmates.test"
NOW = datetime.datetime.now(datetime.UTC)


@contextlib.contextmanager
def listener(address: str, backlog: int = 16) -> Iterator[int]:
    """A port that accepts, as the kernel does for a program that listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen(backlog)
        yield server.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue is full, so that the kernel answers nothing more: silence without a firewall."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(listener("127.0.0.1", backlog=0))
        for _number in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


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
def test_open_and_closed_ports_are_told_apart(address: str) -> None:
    with listener(address) as first, listener(address) as second:
        with listener(address) as closed:
            pass
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
    with silent_port() as silent, listener("127.0.0.1") as port:
        seen = probe(["127.0.0.1"], f"{silent},{port}", expected=[port])["addresses"]["127.0.0.1"]
    assert (seen["open"], seen["silent"]) == ([port], 1)


def test_an_expected_port_gets_more_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[list[int], float]] = []

    def sweep(_self: object, ports: object, timeout: float) -> list[int]:
        tries.append((list(ports), timeout))
        return tries[-1][0]

    monkeypatch.setattr(outside_probe.Scanner, "sweep", sweep)
    seen = outside_probe.scan("127.0.0.1", [1, 2], [2], 1.0, 16, 10.0)
    assert tries == [([2], 1.0), ([1], 1.0), ([2], 3.0)]
    assert (seen["answered"], seen["silent"]) == (False, 2)


def test_silent_ports_are_tried_again_where_anything_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[list[int]] = []

    def sweep(self: object, ports: object, _timeout: float) -> list[int]:
        tries.append(sorted(ports))
        if len(tries) < 3:  # the first look at the expected and at the other ports: 7 gets lost on its way
            self.open |= set(tries[-1]) & {22}
            return [port for port in tries[-1] if port != 22]
        self.open |= set(tries[-1]) & {7, 22}
        return [port for port in tries[-1] if port not in (7, 22)]

    monkeypatch.setattr(outside_probe.Scanner, "sweep", sweep)
    seen = outside_probe.scan("127.0.0.1", [7, 9, 22], [22], 1.0, 16, 10.0)
    assert tries[:3] == [[22], [7, 9], [7, 9]]
    assert (seen["open"], seen["silent"], seen["reliable"]) == ([7, 22], 1, True)


def test_ports_that_fall_silent_make_the_result_unreliable(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[int]] = []

    def sweep(self: object, ports: object, _timeout: float) -> list[int]:
        calls.append(list(ports))
        if len(calls) == 1:
            self.open.add(22)
            return []
        return calls[-1]

    monkeypatch.setattr(outside_probe.Scanner, "sweep", sweep)
    seen = outside_probe.scan("127.0.0.1", [7, 22], [22], 1.0, 16, 10.0)
    assert not seen["reliable"]
    assert "lower the concurrency" in seen["reason"]


def test_an_address_without_a_route_is_unreachable_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "this machine has no IPv6 route to it (Network is unreachable)"
    monkeypatch.setattr(outside_probe, "no_way", lambda address: reason if ":" in address else "")
    with listener("127.0.0.1") as port:
        seen = probe(["127.0.0.1", "2001:db8::1"], str(port))["addresses"]
    assert seen["127.0.0.1"]["open"] == [port]
    assert (seen["2001:db8::1"]["reachable"], seen["2001:db8::1"]["reason"]) == (False, reason)


def test_no_way_explains_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_self: object, _target: object) -> None:
        raise OSError(outside_probe.errno.ENETUNREACH, "Network is unreachable")

    assert outside_probe.no_way("127.0.0.1") == ""
    monkeypatch.setattr(outside_probe.socket, "socket", type("Deaf", (socket.socket,), {"connect": connect}))
    assert "no IPv6 route" in outside_probe.no_way("2001:db8::1")


def test_it_ends_at_its_deadline() -> None:
    with silent_port() as silent:
        seen = probe(["127.0.0.1"], str(silent), timeout=20.0, deadline=0.01)["addresses"]["127.0.0.1"]
    assert not seen["reliable"]
    assert "not every port was tried" in seen["reason"]
    assert seen["elapsed"] < 10


@pytest.mark.parametrize(("text", "ports"), [("22", [22]), ("80-82, 22", [22, 80, 81, 82]), ("", [])])
def test_parse_ports(text: str, ports: list[int]) -> None:
    assert outside_probe.parse_ports(text) == ports


@pytest.mark.parametrize("text", ["0", "65536", "9-8", "x", "1-2-3"])
def test_parse_ports_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|within"):
        outside_probe.parse_ports(text)


class Authority:
    """A certificate authority of its own, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        others = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        signs = dict.fromkeys([*others.split(), "encipher_only", "decipher_only"], False)
        builder = (
            self._builder(self.name, self.key, 300)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **signs), critical=True)
        )
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        """With the key identifiers that strict verification, Python 3.13's default, asks for."""
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=NOW - datetime.timedelta(days=400),
            not_valid_after=NOW + datetime.timedelta(days=days, hours=1),
        )
        subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(subject_id, critical=False).add_extension(issuer_id, critical=False)

    def issue(self, name: str, days: int) -> Path:
        """A file with certificate and key for a name that ends in ``days`` days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, days).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        file = self.folder / f"{name}{days}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Test CA")


class Handler(BaseHTTPRequestHandler):
    """Answers like an api behind a proxy, and tells the Host header it saw."""

    failures = 0

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(308)
            self.send_header("Location", f"https://{NAME}/moved")
        elif self.path == "/late" and Handler.failures > 0:
            Handler.failures -= 1
            self.send_response(502)
        else:
            self.send_response(200 if (self.headers["Host"] or "").startswith(NAME) else 421)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""


@contextlib.contextmanager
def web_server(certificate: Path | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def request(port: int, **more: object) -> dict:
    base = {"name": NAME, "scheme": "https", "port": port, "path": "/health", "ca_file": None}
    return base | {"expect_status": [200], "expect_redirect": None} | more


def test_a_valid_certificate_is_described(authority: Authority) -> None:
    with web_server(authority.issue(NAME, 60)) as port:
        answer = outside_probe.ask("127.0.0.1", request(port, ca_file=str(authority.file)), 5.0)
    assert (answer["ok"], answer["status"], answer["error"]) == (True, 200, "")
    assert (answer["issuer"], answer["days_left"]) == ("Test CA", 60)
    assert answer["not_after"].startswith(str((NOW + datetime.timedelta(days=60, hours=1)).date()))


@pytest.mark.parametrize(
    ("name", "days", "trusted", "words"),
    [
        (NAME, -1, True, "expired"),
        ("other.openmates.test", 60, True, "mismatch"),
        (NAME, 60, False, "certificate"),
    ],
    ids=["expired", "wrong name", "unknown authority"],
)
def test_a_bad_certificate_is_refused_with_its_reason(
    authority: Authority, tmp_path: Path, name: str, days: int, trusted: bool, words: str
) -> None:
    trust = authority if trusted else Authority(tmp_path, "Other CA")
    with web_server(authority.issue(name, days)) as port:
        answer = outside_probe.ask("127.0.0.1", request(port, ca_file=str(trust.file)), 5.0)
    assert (answer["ok"], answer["status"]) == (False, 0)
    assert "the certificate is not valid" in answer["error"]
    assert words in answer["error"]
    assert (answer["issuer"], answer["days_left"]) == ("Test CA", days)


def test_a_redirect_has_to_lead_where_it_should() -> None:
    with web_server() as port:
        plain = request(port, scheme="http", path="/moved", expect_status=[308])
        right = outside_probe.ask("127.0.0.1", plain | {"expect_redirect": f"https://{NAME}/"}, 5.0)
        wrong = outside_probe.ask("127.0.0.1", plain | {"expect_redirect": "https://elsewhere.test"}, 5.0)
    assert right["ok"] and right["location"] == f"https://{NAME}/moved"
    assert not wrong["ok"] and "instead of https://elsewhere.test" in wrong["error"]


def test_a_wrong_status_is_named() -> None:
    with web_server() as port:
        answer = outside_probe.ask("127.0.0.1", request(port, scheme="http", expect_status=[204]), 5.0)
    assert "status 200 instead of 204" in answer["error"]


def test_a_request_is_repeated_until_it_is_answered_as_expected() -> None:
    Handler.failures = 1
    with web_server() as port:
        late = request(port, scheme="http", path="/late")
        answer = outside_probe.ask_until("127.0.0.1", late, 5.0, 10.0)
    assert answer["ok"]


def test_a_server_that_never_answers_is_cut_off() -> None:
    with listener("127.0.0.1") as port:
        answer = outside_probe.ask("127.0.0.1", request(port), 0.2)
    assert not answer["ok"] and answer["error"]


def test_a_port_where_nobody_listens_is_said_so() -> None:
    with listener("127.0.0.1") as port:
        pass
    assert "refused" in outside_probe.ask("127.0.0.1", request(port), 2.0)["error"]


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
