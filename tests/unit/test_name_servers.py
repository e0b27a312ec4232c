"""How a host resolves names: by its configuration, and by questions to a name server on this machine."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import name_servers

ISSUE = b"\x00\x05issue" + b"letsencrypt.org"
ALIAS = b"\x03www\x07example\x04test\x00"


def test_name_servers_of_a_configuration(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# nameserver 192.0.2.1\nsearch example.test\nnameserver 192.0.2.53\n nameserver fe80::1%eth0 # x\n"
    )
    assert name_servers.servers(conf) == ["192.0.2.53", "fe80::1%eth0"]
    conf.write_text("nameserver resolver.example.test\n")
    assert name_servers.servers(conf) == []
    assert name_servers.servers(tmp_path / "missing") == []


def test_docker_passes_queries_past_systemd_resolved(tmp_path: Path) -> None:
    conf, upstream = tmp_path / "resolv.conf", tmp_path / "upstream.conf"
    conf.write_text("nameserver 127.0.0.53\n")
    assert name_servers.servers_of_containers(conf, upstream) == ["127.0.0.53"]
    upstream.write_text("nameserver 169.254.169.253\n")
    assert name_servers.servers_of_containers(conf, upstream) == ["169.254.169.253"]
    conf.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    assert name_servers.servers_of_containers(conf, upstream) == ["127.0.0.53", "192.0.2.53"]


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


class Server(socketserver.UDPServer):
    """A name server with the records of some names; others do not exist."""

    records: dict[str, list[bytes]]
    code = 3
    asked: list[str]


class Answers(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        message, channel = self.request
        labels, place = [], 12
        while message[place]:
            labels.append(message[place + 1 : place + 1 + message[place]].decode())
            place += 1 + message[place]
        name = ".".join(labels)
        self.server.asked.append(name)
        found = self.server.records.get(name)
        flags = 0x8180 | (0 if found is not None else self.server.code)
        head = message[:2] + struct.pack("!5H", flags, 1, len(found or []), 0, 0)
        channel.sendto(head + message[12:] + b"".join(found or []), self.client_address)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answers) as running:
        running.records, running.asked = {}, []
        port = running.server_address[1]
        whole = socket.getaddrinfo
        monkeypatch.setattr(
            name_servers.socket, "getaddrinfo", lambda host, _, **more: whole(host, port, **more), raising=True
        )
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def test_the_records_of_the_nearest_domain_above_apply(server: Server) -> None:
    server.records = {"example.test": [record(257, b"\x80\x05ISSUE;")], "api.example.test": []}
    found = name_servers.authorities(["api.example.test"], ["127.0.0.1"])
    assert found == {"api.example.test": [{"critical": True, "tag": "issue", "value": ";"}]}
    assert server.asked == ["api.example.test", "example.test"]


def test_the_records_behind_an_alias_apply(server: Server) -> None:
    server.records = {"api.example.test": [record(5, ALIAS), record(257, ISSUE), record(257, b"\x00\x05iodefx")]}
    found = name_servers.authorities(["api.example.test"], ["127.0.0.1"])["api.example.test"]
    assert [(entry["tag"], entry["value"]) for entry in found] == [("issue", "letsencrypt.org"), ("iodef", "x")]


def test_without_any_record_every_authority_may(server: Server) -> None:
    assert name_servers.authorities(["api.example.test"], ["127.0.0.1"]) == {"api.example.test": []}
    assert server.asked == ["api.example.test", "example.test", "test"]


def test_a_failed_lookup_is_unknown_and_the_next_server_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.code = 2
    assert name_servers.authorities(["api.example.test"], ["127.0.0.1", "127.0.0.1"]) == {"api.example.test": None}
    assert server.asked == ["api.example.test"] * 2
    monkeypatch.setattr(name_servers, "QUERY_SECONDS", 0.1)
    server.shutdown()
    assert name_servers.authorities(["api.example.test"], ["127.0.0.1"]) == {"api.example.test": None}
    assert name_servers.authorities(["api.example.test"], []) == {"api.example.test": None}


def test_names_are_resolved_by_dns_and_odd_ones_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "getent"
    program.write_text(
        '#!/bin/sh\n[ "$1 $2 $3" = "--no-addrconfig --service=hosts:dns ahosts" ] || exit 9\n'
        'case "$4" in here.test) printf "192.0.2.1 STREAM here.test\\n192.0.2.1 DGRAM\\n2001:db8::1 STREAM\\n" ;;\n'
        "gone.test) exit 2 ;; *) exit 3 ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = name_servers.addresses(["here.test", "gone.test", "failed.test", "; odd", "here.test"])
    assert found == {"here.test": ["192.0.2.1", "2001:db8::1"], "gone.test": [], "failed.test": None}
    assert name_servers.addresses([]) == {}
