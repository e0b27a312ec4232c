"""Requests to a lab host's public port, as from a client on the internet."""

from __future__ import annotations

import http.client
import socket
import ssl

from lab import ROOT, Server


def secure(server: Server, name: str | None, address: str = "", verify: bool = True) -> ssl.SSLSocket:
    """A TLS connection to the server, by default to its IPv4 address, that asks for a name or, with None, for none."""
    context = ssl.create_default_context(cafile=ROOT / ".lab/acme-root.crt")
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection((address or server.addresses[0], 443), 60)
    return context.wrap_socket(connection, server_hostname=name)


def ask(server: Server, method: str, path: str, address: str = "", **options) -> http.client.HTTPResponse:
    """One request to the api by its public name; options are those of HTTPSConnection.request."""
    client = http.client.HTTPSConnection(server.domain, timeout=60)
    client.sock = secure(server, server.domain, address)
    client.request(method, path, **options)
    return client.getresponse()
