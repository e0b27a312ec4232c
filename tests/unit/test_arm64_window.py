"""The watch for an open moment during a boot: it sees a port that answers or refuses, and no other."""

from __future__ import annotations

import errno
import importlib.util
import socket
import sys
import threading
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "lab/lab_arm64/window.py"
spec = importlib.util.spec_from_file_location("lab_arm64_window", FILE)
window = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = window
spec.loader.exec_module(window)


@pytest.fixture
def closed() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def opened():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the watch has noted an answer."""
    noted = threading.Event()

    class Noted(window.Window):
        def seen(self, port: int, code: int, control: int) -> None:
            super().seen(port, code, control)
            if self.answered:
                noted.set()

    monkeypatch.setattr(window, "Window", Noted)
    return noted


@pytest.mark.parametrize(("fixture", "how"), [("closed", "refused"), ("opened", "connected")])
def test_a_port_that_answers_is_seen(
    fixture: str, how: str, opened: int, answer: threading.Event, request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue(fixture)
    control = opened if fixture == "closed" else 1
    with window.watched(["127.0.0.1"], [port], control) as seen:
        assert answer.wait(30), "no answer was noted within 30 s"
    assert {(number, what) for _, number, what in seen.answered} == {(port, how)}
    assert how in seen.text()


def test_silence_is_no_answer() -> None:
    seen = window.Window()
    for code in (errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EAGAIN):
        seen.seen(5432, code, control=22)
    assert seen.answered == [] and seen.attempts == 3
    assert seen.text() == "3 attempts, none answered; sshd never answered"


def test_the_control_port_shows_when_the_machine_is_up() -> None:
    seen = window.Window()
    seen.seen(22, errno.ECONNREFUSED, control=22)
    assert seen.up is None
    seen.seen(22, 0, control=22)
    assert seen.up == 0.0 and seen.answered == []
