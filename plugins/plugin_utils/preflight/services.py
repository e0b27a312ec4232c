# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of the services."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, address_of


def check_subnet(run: Preflight) -> Iterator[str]:
    name, text = "openmates_subnet", run.get("openmates_subnet")
    if text is None:
        return
    try:
        subnet = ipaddress.ip_network(str(text))
    except ValueError as error:
        yield run.problem(name, str(error), "Write it as 172.30.0.0/24")
        return
    default = run.facts.get("default_ipv4") or {}
    for text in (default.get("address"), default.get("gateway")):
        address = address_of(text or "")
        if address is not None and address.version == subnet.version and address in subnet:
            yield run.problem(
                name,
                f"{subnet} contains {address}, which the host's own network uses",
                "Choose a private range that the host's network does not use, e.g. 172.31.0.0/24",
            )
            return


CHECKS = (check_subnet,)
