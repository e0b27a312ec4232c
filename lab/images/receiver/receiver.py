#!/usr/bin/python3
"""Receives alerts by SMTP and HTTP, and keeps the last ones for tests to read.

POST /webhook/HOST, /watchdog/HOST and /topic/HOST are kept, everything else is refused. GET /topic/HOST/json?poll=1
lists a topic as ntfy does. GET /received lists all, each with its time, channel, host and text. The host of a mail is
what its sender has before the @.
"""

from __future__ import annotations

import collections
import email
import email.policy
import json
import re
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHANNELS = ("webhook", "watchdog", "topic")
received: collections.deque[dict] = collections.deque(maxlen=2000)


def keep(channel: str, host: str, text: str) -> None:
    received.append({"time": time.time(), "channel": channel, "host": host, "text": text})


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        match = re.fullmatch(r"/topic/([^/]+)/json", parts.path)
        if match:
            since = float(urllib.parse.parse_qs(parts.query).get("since", ["0"])[0])
            found = [item for item in list(received) if (item["channel"], item["host"]) == ("topic", match[1])]
            lines = [
                {"event": "message", "time": int(item["time"]), "message": item["text"]}
                for item in found
                if item["time"] >= since
            ]
            self.answer(200, "".join(json.dumps(line) + "\n" for line in lines))
        elif parts.path == "/received":
            self.answer(200, json.dumps(list(received)))
        else:
            self.answer(404, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        channel, _, host = urllib.parse.urlsplit(self.path).path.strip("/").partition("/")
        if channel not in CHANNELS or not host:
            return self.answer(404, "")
        keep(channel, host, body)
        return self.answer(200, "{}")

    def answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Requests are kept, not logged."""


class Mail(socketserver.StreamRequestHandler):
    """The few commands of SMTP that deliver a mail."""

    def handle(self) -> None:
        sender = ""
        self.say("220 receiver.openmates.test")
        while line := self.rfile.readline():
            verb = line.strip().upper()
            if verb.startswith(b"DATA"):
                self.say("354 go on")
                keep("mail", sender, self.content())
            elif verb.startswith(b"MAIL FROM:"):
                sender = line.split(b":", 1)[1].decode(errors="replace").strip().strip("<>").partition("@")[0]
            elif verb.startswith(b"QUIT"):
                return self.say("221 bye")
            self.say("250 receiver.openmates.test")
        return None

    def content(self) -> str:
        lines = []
        while (line := self.rfile.readline()) and line.rstrip(b"\r\n") != b".":
            lines.append(line[1:] if line.startswith(b"..") else line)
        message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        body = message.get_body(("plain",))
        return f"{message['Subject']}\n\n{body.get_content() if body else ''}"

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class Http6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Smtp6(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads = socket.AF_INET6, True, True


def main() -> None:
    threading.Thread(target=Smtp6(("::", 25), Mail).serve_forever, daemon=True).start()
    print("receiver: answers on ports 25 and 80", file=sys.stderr)
    Http6(("::", 80), Web).serve_forever()


if __name__ == "__main__":
    main()
