# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate that this host's web server presents for a name, whichever authority it is from."""

from __future__ import annotations

import contextlib
import socket
import ssl
import typing as t
from collections.abc import Callable

from ansible_collections.openmates.server.plugins.module_utils.status.commands import Answer, run

SECONDS = 10


def found(name: str, address: str = "127.0.0.1", port: int = 443, command: Callable[..., Answer] = run) -> dict:
    """When it ends, in seconds since 1970, or the problem."""
    answer: dict[str, t.Any] = {"ends": None, "problem": ""}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # verify.yml judges it from outside
    try:
        with (
            socket.create_connection((address, port), SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=name) as secure,
        ):
            sent = secure.getpeercert(binary_form=True) or b""
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        return answer | {"problem": f"no answer with a certificate for {name} on port {port} ({reason})"}
    # Python reads the dates of verified certificates only.
    shown = command("openssl", "x509", "-noout", "-enddate", text=ssl.DER_cert_to_PEM_cert(sent))
    with contextlib.suppress(ValueError):
        return answer | {"ends": ssl.cert_time_to_seconds(shown["stdout"].strip().removeprefix("notAfter="))}
    return answer | {"problem": f"the certificate cannot be read: {shown['stderr'].strip()}"}
