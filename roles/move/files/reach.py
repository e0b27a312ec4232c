#!/usr/bin/env python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether another server answers for the public names, as Caddy will ask it.

Arguments: its address, a file with CA certificates or an empty string, the names. Exit status 1: the reason is on
standard output.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time

SECONDS, BETWEEN = 30.0, 1.0  # Caddy may have been restarted a moment ago


def problem(address: str, authorities: str, name: str) -> str:
    """Why requests for a name could not be forwarded, empty if they could."""
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        with socket.create_connection((address, 80), 10):
            pass
        with (
            socket.create_connection((address, 443), 10) as opened,
            context.wrap_socket(opened, server_hostname=name),
        ):
            return ""
    except OSError as error:
        return f"{address} cannot be reached as {name}: {error}."


def main() -> int:
    address, authorities, *names = sys.argv[1:]
    end = time.monotonic() + SECONDS
    while problems := [found for name in names if (found := problem(address, authorities, name))]:
        if time.monotonic() >= end:
            print(
                " ".join(problems) + " Ports 80 and 443 of the new server have to be open for the old one (a provider's"
                " firewall?), and its Caddy has to run: site.yml --tags firewall,caddy."
            )
            return 1
        time.sleep(BETWEEN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
