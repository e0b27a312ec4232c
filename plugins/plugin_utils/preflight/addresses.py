# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public names and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.backend import OFFICIAL, host_of, hosting_name
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import (
    Preflight,
    address_of,
    domain_as_used,
    is_domain,
    is_placeholder_domain,
)

# Top-level domains without mail; Directus would refuse them in the middle of its first start.
SPECIAL_DOMAINS = ("test", "local", "localhost", "internal", "lan", "home", "invalid", "example")
# The characters of an address that Caddy, Directus and mail servers take alike.
EMAIL = re.compile(r"([A-Za-z0-9.!#$%&*+/=?^_~-]+)@([^@\s]+)")
ORIGIN = re.compile(r"(https?)://([^/\s:,]+|\[[0-9a-f:]+\])(:\d+)?(/[^\s,]*)?", re.IGNORECASE | re.ASCII)
# Names that OpenMates rejects as imitations of its own. Its encrypted list has more.
OWN_NAME = re.compile(r"[o0]penmates|open[-_]+mates")
LOCAL = re.compile(r"^(localhost|[\d.]+)$", re.ASCII)
# Some of the two-label public suffixes. Browsers refuse a cookie for them.
PUBLIC_SUFFIXES = (
    *(
        "co.uk",
        "org.uk",
        "me.uk",
        "com.au",
        "net.au",
        "org.au",
        "co.nz",
        "co.jp",
        "or.jp",
        "com.br",
        "com.cn",
        "com.tr",
    ),
    *("com.mx", "co.in", "co.za", "co.kr", "com.sg", "com.tw", "github.io", "gitlab.io", "vercel.app", "netlify.app"),
    *("pages.dev", "workers.dev", "web.app", "onrender.com", "fly.dev", "herokuapp.com"),
)


def check_admin_email(run: Preflight) -> Iterator[str]:
    yield from _check_email(run, "openmates_admin_email", required=True)


def check_acme_email(run: Preflight) -> Iterator[str]:
    if run.get("openmates_acme_email") != run.get("openmates_admin_email"):
        yield from _check_email(run, "openmates_acme_email", required=False)


def _check_email(run: Preflight, name: str, required: bool) -> Iterator[str]:
    value = str(run.get(name, ""))
    remedy = "Set it to an address whose mail is read"
    if name in run.broken or (not value and not required):
        return
    match = EMAIL.fullmatch(value.strip())
    domain = domain_as_used(match[2]) if match else ""
    if not value.strip():
        yield run.problem(name, "it is not set" if required else "it is blank", remedy)
    elif not match or not is_domain(domain):
        yield run.problem(name, f"{value!r} is not an e-mail address", remedy)
    elif is_placeholder_domain(domain) or re.search(r"change-?me|^your", value, re.I):
        yield run.problem(name, f"{value!r} is a placeholder", remedy)
    elif domain.rpartition(".")[2] in SPECIAL_DOMAINS:
        yield run.problem(name, f"Directus accepts no address under .{domain.rpartition('.')[2]}", remedy)
    elif value != value.strip() or match[2].lower() != domain:
        yield run.problem(name, f"{value!r} is not as mail servers write it", f"Write {match[1]}@{domain}")


def check_domain(run: Preflight) -> Iterator[str]:
    name, written = "openmates_domain", str(run.get("openmates_domain", ""))
    domain = domain_as_used(written)
    remedy = "Set it to the api's public name, e.g. api. and your domain"
    if name in run.broken:
        return
    if not domain:
        if run.environment == "prod":
            yield run.problem(name, "it is not set, and production needs one", remedy)
        return
    if is_placeholder_domain(domain):
        yield run.problem(name, f"{domain!r} is a placeholder", remedy)
    elif "/" in domain or ":" in domain:
        yield run.problem(name, f"{domain!r} is not only a name", "Leave out https://, the port and the path")
    elif not is_domain(domain):
        yield run.problem(name, f"{domain!r} is not a domain name", remedy)
    elif written != domain:
        yield _misspelt(run, name, written, domain)
    elif run.environment == "prod" and domain.endswith(".localhost"):
        yield run.problem(name, f"{domain!r} is a local name of this machine", remedy)


def _misspelt(run: Preflight, name: str, written: str, domain: str) -> str:
    return run.problem(name, f"{written!r} is not as browsers and certificates have it", f"Write {domain}")


def check_directus_domain(run: Preflight) -> Iterator[str]:
    name, written = "openmates_directus_domain", str(run.get("openmates_directus_domain", ""))
    domain = domain_as_used(written)
    if not written:
        return
    if not is_domain(domain):
        yield run.problem(name, f"{written!r} is not a domain name", "Write it as cms.dev. and your domain")
    elif written != domain:
        yield _misspelt(run, name, written, domain)
    elif run.environment == "prod":
        yield run.problem(
            name, "in production Directus has no public name", "Remove it, and reach Directus through an SSH tunnel"
        )
    elif not run.get("openmates_domain"):
        yield run.problem(name, "Caddy serves it besides the api's name only", "Set openmates_domain, or remove it")
    elif domain == run.get("openmates_domain"):
        yield run.problem(name, "it is the api's name", "Give Directus a name of its own")


def check_frontends(run: Preflight) -> Iterator[str]:
    name, urls = "openmates_frontend_urls", run.get("openmates_frontend_urls", [])
    for url in urls:
        match = ORIGIN.fullmatch(str(url))
        host = domain_as_used(match[2]) if match else ""
        if not match:
            yield run.problem(
                name, f"{url!r} is not the origin of a website", "Write https:// and a name, without a path"
            )
        elif not (is_domain(host) or host == "localhost" or address_of(host.strip("[]"))):
            yield run.problem(name, f"{url!r} is not the origin of a website", "Write https:// and a name")
        elif is_placeholder_domain(host):
            yield run.problem(
                name, f"{url!r} is a placeholder", "Set it to your web app's address, or to [] without one"
            )
        elif run.environment == "prod" and match[1].lower() == "http":
            yield run.problem(name, f"{url!r} is not encrypted", "Use https:// in production")
        elif (sent := _as_sent(match)) != url:
            yield run.problem(
                name, f"browsers do not send {url!r}, and the api compares origins exactly", f"Write {sent}"
            )


def _as_sent(match: re.Match) -> str:
    """An origin as browsers write it: lower case, Punycode, without the scheme's own port, a slash or a path."""
    scheme, host, port = match[1].lower(), domain_as_used(match[2]), match[3] or ""
    return f"{scheme}://{host}{'' if port == {'http': ':80', 'https': ':443'}[scheme] else port}"


def check_hosting_name(run: Preflight) -> Iterator[str]:
    """OpenMates does not start under a name that resembles its own."""
    host, name = hosting_name(run)
    if not OWN_NAME.search(host) or host == OFFICIAL:
        return
    what = f"OpenMates refuses to start for {host}, since only {OFFICIAL} itself may contain or resemble its name"
    if run.environment == "prod":
        remedy = "Give the frontend another name, first in openmates_frontend_urls"
    elif name == "openmates_frontend_urls":
        remedy = "Remove it, or put one that is not localhost before it"
    else:
        remedy = "Use another name or the address, or put providers/stripe into openmates_vault_seeds"
    if name == "ansible_host":
        yield run.host_problem(f"{name}: {what}", remedy)
    else:
        yield run.problem(name, what, remedy)


def check_cookie_domain(run: Preflight) -> Iterator[str]:
    """The login cookie's domain must contain both the frontend's name and the api's."""
    name, cookie = "openmates_cookie_domain", run.get("openmates_cookie_domain", "")
    domain, urls = str(run.get("openmates_domain", "")).strip().lower(), run.get("openmates_frontend_urls", [])
    if name in run.broken:
        return
    if cookie and not is_domain(domain_as_used(cookie).removeprefix(".")):
        yield run.problem(name, f"{cookie!r} is not a domain", "Write it as .example.co.uk, or leave it empty")
        return
    if cookie and cookie != domain_as_used(cookie):
        yield _misspelt(run, name, cookie, domain_as_used(cookie))
        return
    if cookie and not domain:
        yield run.problem(
            name, "the api has no domain name that could share it", "Set openmates_domain, or leave this empty"
        )
        return
    if not is_domain(domain) or is_placeholder_domain(domain) or domain.endswith(".localhost"):
        return  # an IP address, whose cookie has no domain, or refused above
    if cookie and not _within(domain, cookie):
        yield run.problem(
            name, f"{cookie} does not include the api's {domain}", "Write the part that it shares with the frontend"
        )
        return
    for host in (host_of(str(url)) for url in urls):
        if LOCAL.match(host) or not is_domain(host) or is_placeholder_domain(host):
            continue
        wanted = (cookie or ".".join(host.split(".")[-2:])).removeprefix(".")
        if not _within(host, wanted):
            yield run.problem(
                name,
                f"the frontend {host} is not below {wanted}, so no one could log in there",
                "Write the part that it shares with the api, or remove that frontend",
            )
        elif not _within(domain, wanted):
            yield run.problem(
                "openmates_frontend_urls",
                f"no one can log in at {host}: its login cookie is for {wanted}, and the api is at {domain}",
                "Give the api and the frontend names below one domain of yours",
            )
        elif wanted in PUBLIC_SUFFIXES:
            yield run.problem(
                name,
                f"browsers accept no cookie for {wanted}, a public suffix",
                f"Set it to .{'.'.join(host.split('.')[-3:])}, if the api's name ends so too",
            )


def _within(host: str, domain: str) -> bool:
    return f".{host}".endswith(f".{domain.lower().removeprefix('.')}")


CHECKS = (
    check_admin_email,
    check_acme_email,
    check_domain,
    check_directus_domain,
    check_frontends,
    check_hosting_name,
    check_cookie_domain,
)
