# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS: where the public names lead, and whether an authority may certify them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import (
    Preflight,
    address_of,
    is_domain,
    is_placeholder_domain,
)

#: The settings that hold a public name of this server.
NAMES = ("openmates_domain", "openmates_directus_domain")
#: Those that Caddy asks for certificates if no other directory is set: Let's Encrypt, then ZeroSSL.
AUTHORITIES = ("letsencrypt.org", "sectigo.com", "zerossl.com")
#: How Caddy proves that a name is this server's.
METHODS = {"http-01", "tls-alpn-01"}
KNOWN_TAGS = ("issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc")


def _public_names(run: Preflight) -> Iterator[tuple[str, str]]:
    """The settings and their names, without those that are refused elsewhere or are local."""
    for setting in NAMES:
        name = str(run.get(setting, "")).strip()
        usable = is_domain(name) and not is_placeholder_domain(name) and not name.endswith(".localhost")
        if usable and setting not in run.broken and (run.get(NAMES[0]) or setting == NAMES[0]):
            yield setting, name


def check_resolution(run: Preflight) -> Iterator[str]:
    for setting, name in _public_names(run):
        resolved = (run.host.get("resolved") or {}).get(name)
        if resolved is None:  # the host could not resolve it
            continue
        if not resolved:
            yield run.problem(
                setting,
                f"{name} does not resolve",
                "Add an A record (and an AAAA record) that points to this host, then wait for it",
            )
        # A new server is provisioned while DNS still leads to the one that it replaces; move.yml compares the two.
        elif not run.get("openmates_domain_elsewhere", False) and not run.host.get("replaces_another"):
            yield from _check_leads_here(run, setting, name, resolved)


def _check_leads_here(run: Preflight, setting: str, name: str, resolved: list[str]) -> Iterator[str]:
    own = {
        address_of(text) for key in ("all_ipv4_addresses", "all_ipv6_addresses") for text in run.facts.get(key) or []
    }
    # In a move, and until DNS has followed, the other server forwards requests to the one that serves.
    forwarding = {address_of(text) for text in run.host.get("forwarding") or []}
    elsewhere = sorted({text for text in resolved if address_of(text) not in own | forwarding})
    if elsewhere:
        mine = ", ".join(str(address) for address in sorted(own - {None}, key=str) if _is_public(address)) or "none"
        yield run.problem(
            setting,
            f"{name} resolves to {', '.join(elsewhere)}, which is not this host (its addresses: {mine})",
            "Correct the DNS record, or set openmates_domain_elsewhere: true if a proxy or NAT forwards requests",
        )


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether to show the address as the host's: not one of loopback, link-local or bridges."""
    docker = ipaddress.ip_network("172.16.0.0/12")
    return not (address.is_loopback or address.is_link_local or (address.version == 4 and address in docker))


def check_authorities(run: Preflight) -> Iterator[str]:
    """Without a CAA record any authority may certify a name. Not checked with a directory of the operator's own."""
    if run.get("openmates_acme_directory"):
        return
    for setting, name in _public_names(run):
        records = (run.host.get("caa") or {}).get(name)
        if records and not _is_allowed(records):
            shown = ", ".join(f'{record["tag"]} "{record["value"]}"' for record in records)
            yield run.problem(
                setting,
                f"a CAA record in DNS does not let Let's Encrypt certify {name} ({shown})",
                'Add the record `issue "letsencrypt.org"`, or set openmates_acme_directory to one that is allowed',
            )


def _is_allowed(records: list[dict]) -> bool:
    if any(record["critical"] and record["tag"] not in KNOWN_TAGS for record in records):
        return False
    issue = [record["value"] for record in records if record["tag"] == "issue"]
    return not issue or any(map(_lets_us, issue))


def _lets_us(value: str) -> bool:
    """Whether one `issue` property allows an authority of ours, and a way of proof that Caddy has."""
    authority, *parameters = (part.strip() for part in value.split(";"))
    methods = [
        match[1].split(",") for text in parameters if (match := re.fullmatch(r"validationmethods\s*=\s*(.+)", text))
    ]
    return authority.lower() in AUTHORITIES and all(METHODS & {item.strip() for item in listed} for listed in methods)


CHECKS = (check_resolution, check_authorities)
