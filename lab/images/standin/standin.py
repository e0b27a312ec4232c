#!/usr/bin/python3
"""Stands in for Grafana, Loki or Promtail in a lab that cannot have the real ones.

Honours command line, port, health path and mounted configuration, and ends with one clear line on a configuration that
the real program would refuse. STANDIN_SERVICE says which program to stand in for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import html
import json
import os
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import checks

#: Flags that each program is known to take: those that need no value, those that need one. Most change nothing here.
BARE_FLAGS = {
    "loki": "config.expand-env health verify-config print-config-stderr",
    "promtail": "config.expand-env dry-run check-syntax print-config-stderr",
    "grafana": "",
}
VALUED_FLAGS = {
    "loki": "config.file health.url target log.level",
    "promtail": "config.file log.level client.external-labels",
    "grafana": "homepath config packaging",
}
DEFAULT_CONFIG = {"loki": "/etc/loki/local-config.yaml", "promtail": "/etc/promtail/config.yml"}

#: An answer: status, content type, body.
Answer = tuple[int, str, str]
Route = Callable[[dict[str, str]], Answer]


def flags(service: str, arguments: list[str]) -> dict[str, str]:
    """Read Go-style flags (-name=value, --name value). Raises ConfigError for one that the program does not have."""
    bare, valued = BARE_FLAGS[service].split(), VALUED_FLAGS[service].split()
    values: dict[str, str] = {}
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        name, given, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name not in bare + valued:
            raise checks.ConfigError(f"unknown argument {argument!r}")
        if not given:
            if name in valued and not queue:
                raise checks.ConfigError(f"flag needs an argument: -{name}")
            value = "true" if name in bare else queue.pop(0)
        values[name] = value
    return values


def metrics(service: str) -> Answer:
    """A minimal page for Prometheus, truthful about what answers."""
    lines = [
        "# HELP openmates_lab_stand_in A stand-in of the lab answers in place of this program.",
        "# TYPE openmates_lab_stand_in gauge",
        f'openmates_lab_stand_in{{service="{service}"}} 1',
    ]
    return 200, "text/plain; version=0.0.4", "\n".join(lines) + "\n"


def _digest(salt: str, password: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), 10_000).hex()


def write_password(data: Path, password: str) -> None:
    """Keep the administrator's password as Grafana does: in a table of its SQLite database."""
    salt = os.urandom(16).hex()
    with contextlib.closing(sqlite3.connect(data / "grafana.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY, password TEXT, salt TEXT)")
        database.execute("REPLACE INTO user VALUES (1, ?, ?)", (_digest(salt, password), salt))


def right_password(data: Path, password: str) -> bool:
    """Whether it is the administrator's password."""
    with contextlib.closing(sqlite3.connect(data / "grafana.db")) as database:
        [(kept, salt)] = database.execute("SELECT password, salt FROM user WHERE id = 1")
    return hmac.compare_digest(_digest(salt, password), kept)


def grafana_cli(arguments: list[str], environment: dict[str, str], password: str) -> str:
    """`grafana cli`: the one command that start.sh uses; returns what it prints. Raises ConfigError."""
    wanted = ["admin", "reset-admin-password", "--password-from-stdin"]
    if arguments[:1] != ["cli"] or arguments[-3:] != wanted:
        raise checks.ConfigError(f"unknown command {' '.join(arguments)!r}: only `cli {' '.join(wanted)}`")
    data = Path(environment.get("GF_PATHS_DATA", "/var/lib/grafana"))
    if not (data / "grafana.db").is_file():
        raise checks.ConfigError("there is no database yet")
    if len(password) < 4:
        raise checks.ConfigError("new password is too short")
    write_password(data, password)
    return "Admin password changed successfully"


def grafana_routes(environment: dict[str, str]) -> dict[str, Route]:
    """Grafana's health, a page that lists its data sources, and /api/datasources for the admin. Raises ConfigError."""
    provisioning = Path(environment.get("GF_PATHS_PROVISIONING", "/etc/grafana/provisioning"))
    checks.grafana_quiet(environment)
    sources = checks.grafana(provisioning)
    user = environment.get("GF_SECURITY_ADMIN_USER", "admin")
    # Like Grafana: the setting counts when the administrator is made, at the first start, and never again.
    data = Path(environment.get("GF_PATHS_DATA", "/var/lib/grafana"))
    given_password = checks.admin_password(environment)
    if not (data / "grafana.db").is_file():
        write_password(data, given_password)
    rows = "".join(
        f"<li>{html.escape(str(source['name']))} ({html.escape(str(source['type']))})</li>" for source in sources
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Stand-in for Grafana</title>'
        "<h1>Stand-in for Grafana</h1><p>This lab has no image of Grafana. This page stands in; it draws nothing."
        f"<p>Data sources it was given:<ul>{rows or '<li>none</li>'}</ul></html>\n"
    )

    def datasources(headers: dict[str, str]) -> Answer:
        kind, _, given = headers.get("Authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            name = password = ""
        if kind.lower() != "basic" or name != user or not right_password(data, password):
            return 401, "application/json", '{"message":"Unauthorized"}\n'
        return 200, "application/json", json.dumps(sources) + "\n"

    health = json.dumps({"database": "ok", "version": "lab-stand-in", "commit": "none"}) + "\n"
    return {
        "/": lambda _: (200, "text/html; charset=utf-8", page),
        "/login": lambda _: (200, "text/html; charset=utf-8", page),
        "/api/health": lambda _: (200, "application/json", health),
        "/api/datasources": datasources,
    }


def prepare(service: str, arguments: list[str], environment: dict[str, str]) -> tuple[int, dict[str, Route]]:
    """Port and routes for a service, or ConfigError for a command line or a mounted file that it would refuse."""
    values = flags(service, arguments)
    routes: dict[str, Route] = {"/metrics": lambda _: metrics(service)}
    if service == "grafana":
        return _port(environment.get("GF_SERVER_HTTP_PORT", "3000")), routes | grafana_routes(environment)
    config = Path(values.get("config.file", DEFAULT_CONFIG[service]))
    expand = values.get("config.expand-env") == "true"
    port = checks.loki(config, expand, environment) if service == "loki" else checks.promtail(config, expand)
    ready = "ready\n" if service == "loki" else "Ready"
    return port, routes | {"/ready": lambda _: (200, "text/plain", ready)}


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise checks.ConfigError(f"{text!r} is no port number")
    return int(text)


def loki_health(values: dict[str, str]) -> int:
    """`loki -health`: 0 when the running Loki says that it is ready, else 1."""
    url = values.get("health.url", "http://localhost:3100/ready")
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the address is the caller's own
            return 0 if answer.status == 200 else 1
    except (OSError, urllib.error.HTTPError) as error:
        print(f"Health check failed: {error}", file=sys.stderr)
        return 1


def serve(port: int, routes: dict[str, Route]) -> None:
    """Answer on all addresses, both families where the kernel has them, until SIGTERM or SIGINT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            status, kind, body = route(dict(self.headers)) if route else (404, "text/plain", "not found\n")
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="lab"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Stay quiet: a health check every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    Server(("", port), Handler).serve_forever()


def main() -> None:
    """Serve, or end with status 1 and the reason."""
    service = os.environ.get("STANDIN_SERVICE", "")
    if service not in BARE_FLAGS:
        sys.exit(f"stand-in: STANDIN_SERVICE must be one of {', '.join(BARE_FLAGS)}")
    arguments, environment = sys.argv[1:], dict(os.environ)
    try:
        if Path(sys.argv[0]).name == "grafana":
            print(grafana_cli(arguments, environment, sys.stdin.readline().rstrip("\n")))
            return
        if service == "loki" and "health" in flags(service, arguments):
            sys.exit(loki_health(flags(service, arguments)))
        port, routes = prepare(service, arguments, environment)
    except checks.ConfigError as error:
        sys.exit(f"{service} (lab stand-in): {error}")
    print(f"{service} (lab stand-in): answers on port {port}", file=sys.stderr)
    serve(port, routes)


if __name__ == "__main__":
    main()
