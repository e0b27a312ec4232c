"""Whether services answer, asked by the outage watcher: real sockets on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.module_utils import answers

AT_ONCE = 0.3


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket whose connections the kernel accepts, as those of a process that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def known(monkeypatch: pytest.MonkeyPatch, port: int, what: bytes | str = "/health") -> None:
    monkeypatch.setattr(answers, "QUESTIONS", {"api": (port, what)})


def reply(listener: socket.socket, text: bytes) -> list[bytes]:
    got: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            got.append(connection.recv(999))
            connection.sendall(text)

    threading.Thread(target=serve, daemon=True).start()
    return got


def test_any_answer_counts(listener, monkeypatch) -> None:
    known(monkeypatch, listener.getsockname()[1])
    got = reply(listener, b"HTTP/1.0 429 Too Many Requests\r\n")
    assert answers.answers("api", "127.0.0.1")
    assert got[0].startswith(b"GET /health HTTP/1.0\r\n")


def test_a_connection_that_is_accepted_and_not_answered_does_not_count(listener, monkeypatch) -> None:
    known(monkeypatch, listener.getsockname()[1])
    assert not answers.answers("api", "127.0.0.1", AT_ONCE)


def test_a_connection_that_is_closed_without_an_answer_does_not_count(listener, monkeypatch) -> None:
    known(monkeypatch, listener.getsockname()[1])
    reply(listener, b"")
    assert not answers.answers("api", "127.0.0.1", 5)


@pytest.mark.parametrize(("service", "well"), [("api", False), ("task-worker", True), ("app-of-an-operator", True)])
def test_a_refused_connection_is_a_fault_of_services_that_listen(listener, monkeypatch, service, well) -> None:
    port = listener.getsockname()[1]
    listener.close()
    monkeypatch.setattr(answers, "QUESTIONS", {"api": (port, "/"), "task-worker": (port, "/")})
    monkeypatch.setattr(answers, "ANY_PORT", port)
    assert answers.answers(service, "127.0.0.1") is well


def test_services_are_asked_at_once_and_those_without_an_address_not_at_all(listener, monkeypatch) -> None:
    monkeypatch.setattr(answers, "QUESTIONS", {})
    monkeypatch.setattr(answers, "ANY_PORT", listener.getsockname()[1])
    monkeypatch.setattr(answers, "answers", lambda service, address: service != "api")
    asked = [SimpleNamespace(service=name, address=address) for name, address in [("api", "1"), ("x", "1"), ("y", "")]]
    assert answers.silent(asked) == {"api"}
    assert answers.silent([]) == set()
