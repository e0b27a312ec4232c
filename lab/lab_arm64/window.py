"""Whether a machine answers at a port that it must not answer at, from before its network is up."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

#: What the kernel answers a packet to a closed port with while no firewall drops the packet.
ANSWERS = {0: "connected", errno.ECONNREFUSED: "refused"}
#: Seconds: how long one attempt waits, and the pause after it.
PATIENCE, PAUSE = 1.0, 0.1


@dataclass
class Window:
    """Attempts at ports that no one may reach, and at one that answers when the machine is up."""

    answered: list[tuple[float, int, str]] = field(default_factory=list)
    attempts: int = 0
    up: float | None = None
    start: float = field(default_factory=time.monotonic)

    def seen(self, port: int, code: int, control: int) -> None:
        """Note how an attempt ended. The control port proves that an answer would have been seen."""
        self.attempts += 1
        if code not in ANSWERS:
            return
        after = round(time.monotonic() - self.start, 1)
        if port == control:
            self.up = after if self.up is None and code == 0 else self.up
        else:
            self.answered.append((after, port, ANSWERS[code]))

    def text(self) -> str:
        """For the record: "412 attempts, none answered; sshd after 71.2 s"."""
        first = "; ".join(f"port {port} {how} after {after} s" for after, port, how in self.answered[:3])
        answered = f"{len(self.answered)} answered ({first})" if first else "none answered"
        up = "sshd never answered" if self.up is None else f"sshd after {self.up} s"
        return f"{self.attempts} attempts, {answered}; {up}"


def attempt(address: str, port: int) -> int:
    """The error number that a connection ends with; 0: connected."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            return connection.connect_ex((address, port))
        except OSError as error:
            return error.errno or errno.ETIMEDOUT


@contextlib.contextmanager
def watched(addresses: Iterable[str], ports: Iterable[int], control: int = 22) -> Iterator[Window]:
    """Try every port of every address, again and again, while the body of the `with` runs."""
    window, done = Window(), threading.Event()

    def keep_trying(address: str, port: int) -> None:
        while not done.wait(PAUSE):
            if port == control and window.up is not None:
                return  # more would keep sshd from answering others
            window.seen(port, attempt(address, port), control)

    pairs = [(address, port) for address in addresses for port in (control, *ports)]
    threads = [threading.Thread(target=keep_trying, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    try:
        yield window
    finally:
        done.set()
        for thread in threads:
            thread.join()
