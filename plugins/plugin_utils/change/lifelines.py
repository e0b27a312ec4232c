# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process's ends of the connections that hold the hosts' locks.

A lock is to live exactly as long as the process of ansible-playbook. Action plugins run in workers that end with their
task, so the main process makes a pair of sockets before it forks the worker, and keeps one of them. The worker gives
the other one to ssh, as standard input and output, and ends. When the main process ends, however it ends, the kernel
closes its socket. Workers that are forked later must not keep copies.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import typing as t


class Lifelines:
    """The locks of this run by host. One object per process, made before the first fork."""

    def __init__(self) -> None:
        self.held: dict[str, socket.socket] = {}
        self.asked: dict[str, tuple[socket.socket, socket.socket]] = {}
        self.current = ""  # the host whose lock the next worker is for
        self.rebooting: set[str] = set()  # the hosts whose lock ends with a reboot that this run causes
        self.run = secrets.token_hex(8)  # by which this run is known again after a reboot
        os.register_at_fork(after_in_child=self._forget_others, after_in_parent=self._give_away)

    def _forget_others(self) -> None:
        """In a worker: keep only what is for this one."""
        for ours in self.held.values():
            ours.close()
        for host, pair in self.asked.items():
            if host != self.current:
                pair[0].close()

    def _give_away(self) -> None:
        """In the main process: the other end is the worker's now, so that its end is noticed."""
        if self.current:
            self.asked[self.current][1].close()
            self.current = ""

    def prepare(self, host: str) -> None:
        """Called before the worker that takes the lock is forked."""
        self.current = ""
        if host in self.rebooting:
            self.rebooting.discard(host)
            if host in self.held:  # the reboot did not end the connection as a shutdown does
                self.held.pop(host).close()
        if host not in self.held:
            self.drop(host)
            self.asked[host] = socket.socketpair()
            self.current = host

    def settle(self, host: str, locked: bool) -> None:
        """Called when that worker has ended."""
        if host in self.asked:
            ours = self.asked.pop(host)[0]
            if locked:
                self.held[host] = ours
            else:
                ours.close()

    def announce_reboot(self, host: str, seconds: float) -> None:
        """Let the host keep the note of this run until it takes the lock again."""
        if host not in self.held:
            return  # it was lost, which has been reported
        self.rebooting.add(host)
        with contextlib.suppress(OSError):
            self.held[host].settimeout(seconds)
            self.held[host].sendall(b'{"reboot": true}\n')
            next(events(self.held[host]), None)

    def drop(self, host: str) -> None:
        """Give up what was prepared for a host."""
        for end in self.asked.pop(host, ()):
            end.close()

    def pair(self, host: str) -> tuple[socket.socket, socket.socket] | None:
        """In the worker: what was prepared for it; None if the callback plugin is not loaded."""
        return self.asked.get(host) if host == self.current else None

    def lost(self) -> list[str]:
        """The hosts whose lock was lost since the last call, but not by a reboot; they are no longer held."""
        ready = select.select(list(self.held.values()), [], [], 0)[0] if self.held else []
        gone = [host for host, ours in self.held.items() if ours in ready]
        for host in gone:
            self.held.pop(host).close()
        return [host for host in gone if host not in self.rebooting]

    def release(self, host: str, outcome: t.Mapping[str, t.Any], seconds: float) -> str:
        """Report the outcome of the run and free the lock. Returns a problem, or an empty string."""
        with contextlib.closing(self.held.pop(host)) as ours:
            try:
                ours.settimeout(seconds)
                ours.sendall(json.dumps(outcome).encode() + b"\n")
                for event in events(ours):
                    if event["event"] == "recorded":
                        return str(event["problem"])
            except OSError as error:
                return str(error)
        return "the connection that held the lock ended"


def events(ours: socket.socket) -> t.Iterator[dict[str, t.Any]]:
    """The events of the holder until its end. Raises OSError, also after the socket's timeout."""
    rest = b""
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # what sudo and login shells print
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event
        data = ours.recv(1 << 16)
        if not data:
            return
        rest += data


LIFELINES = Lifelines()
