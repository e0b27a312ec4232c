# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request a web server at a given address, with full verification of its certificate."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import socket
import ssl
import threading
import time


def ask(address: str, request: dict, timeout: float) -> dict:
    """Send one request to an address. Returns the entry that the module outside_probe documents."""
    secure = request["scheme"] == "https"
    standard = 443 if secure else 80
    port = request.get("port") or standard
    host = request["name"] if port == standard else f"{request['name']}:{port}"
    answer = {
        "address": address,
        "url": f"{request['scheme']}://{host}{request['path']}",
        "ok": False,
        "status": 0,
        "location": "",
        "issuer": "",
        "not_after": "",
        "days_left": None,
        "error": "",
    }
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((address, port), timeout=timeout))
            # A server that sends single bytes slowly must not delay the run.
            guard = threading.Timer(timeout, lambda: _cut(connection))
            guard.daemon = True
            guard.start()
            stack.callback(guard.cancel)
            if secure:
                context = ssl.create_default_context(cafile=request.get("ca_file"))
                connection = stack.enter_context(
                    context.wrap_socket(connection, server_hostname=request["name"], do_handshake_on_connect=False)
                )
                connection.do_handshake()
                answer |= certificate(connection.getpeercert() or {})
            response = exchange(connection, host, request["path"])
            answer |= {"status": response.status, "location": response.getheader("Location") or ""}
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            answer |= refused_certificate(address, port, request["name"], timeout)
        return {**answer, "error": explain(error, request)}
    return {**answer, **verdict(answer, request)}


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def exchange(connection: socket.socket, host: str, path: str) -> http.client.HTTPResponse:
    """One GET over an open connection; reads the status and the headers, not the body."""
    fields = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: openmates-verify",
        "Accept: */*",
        "Connection: close",
    )
    connection.sendall("\r\n".join((*fields, "", "")).encode())
    response = http.client.HTTPResponse(connection, method="GET")
    response.begin()
    return response


def certificate(fields: dict) -> dict:
    """Issuer and expiry of a verified certificate, in the form of ``ssl``."""
    issuer = dict(pair for group in fields.get("issuer", ()) for pair in group)
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(fields["notAfter"]), datetime.UTC)
    return {"issuer": issuer.get("commonName") or issuer.get("organizationName", ""), **lifetime(ends)}


def refused_certificate(address: str, port: int, name: str, timeout: float) -> dict:
    """Issuer and expiry of a certificate that failed verification, as far as this machine can read it."""
    try:
        from cryptography import x509  # a dependency of ansible-core
    except ImportError:
        return {}
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=timeout) as connection,
            context.wrap_socket(connection, server_hostname=name) as secure,
        ):
            found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return {}
    # Property names differ between releases of cryptography.
    ends = getattr(found, "not_valid_after_utc", None) or found.not_valid_after.replace(tzinfo=datetime.UTC)
    issuer = [part.value for part in found.issuer if part.oid == x509.NameOID.COMMON_NAME]
    return {
        "issuer": issuer[0] if issuer else found.issuer.rfc4514_string(),
        **lifetime(ends),
    }


def lifetime(ends: datetime.datetime) -> dict:
    left = ends - datetime.datetime.now(datetime.UTC)
    return {"not_after": ends.strftime("%Y-%m-%dT%H:%M:%SZ"), "days_left": left.days}


def explain(error: Exception, request: dict) -> str:
    """An error as a message that helps an operator to find the cause."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, FileNotFoundError):
        return f"the file {request.get('ca_file')} (ca_file) does not exist on this machine"
    if isinstance(error, ssl.SSLError) and "alert" in str(error).lower():
        return f"the server refused the name {request['name']} ({error.reason}): it may have no certificate for it yet"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException):
        return "the connection ended without an answer to the request"
    return f"{os.strerror(error.errno)}" if error.errno else str(error)


def verdict(answer: dict, request: dict) -> dict:
    """Whether an answer is as expected, and otherwise the problem."""
    allowed = request["expect_status"]
    if answer["status"] not in allowed:
        return {"ok": False, "error": f"status {answer['status']} instead of {' or '.join(map(str, allowed))}"}
    start = request.get("expect_redirect")
    if start and not answer["location"].startswith(start):
        return {"ok": False, "error": f"it redirects to {answer['location'] or 'no location'} instead of {start}"}
    return {"ok": True, "error": ""}


def ask_until(address: str, request: dict, timeout: float, wait: float) -> dict:
    """Repeat a request until the answer is as expected, at most ``wait`` seconds longer than the first one takes."""
    ends = time.monotonic() + wait
    pace = threading.Event()
    while True:
        answer = ask(address, request, timeout)
        left = ends - time.monotonic()
        if answer["ok"] or left <= 0:
            return answer
        pace.wait(min(1.0, left))
