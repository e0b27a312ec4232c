# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public names and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.backend import OFFICIAL, host_of, hosting_name
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import (
    LABEL,
    Preflight,
    is_placeholder_domain,
)

# Top-level domains without mail; Directus would refuse them in the middle of its first start.
SPECIAL_DOMAINS = ("test", "local", "localhost", "internal", "lan", "home", "invalid", "example")
EMAIL = re.compile(r"^[^@\s<>,;:\"']+@([^@\s]+)$")
ORIGIN = re.compile(r"^(https?)://([^/\s:,]+)(:\d+)?(/[^\s,]*)?$", re.IGNORECASE)
# Names that OpenMates rejects as imitations of its own. Its encrypted list has more.
OWN_NAME = re.compile(r"[o0]penmates|open[-_]+mates")
LOCAL = re.compile(r"^(localhost|[\d.]+)$")
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
    value = str(run.get(name, "")).strip()
    remedy = "Set it to an address whose mail is read"
    if name in run.broken or (not value and not required):
        return
    match = EMAIL.match(value)
    if not value:
        yield run.problem(name, "it is not set", remedy)
    elif not match or "." not in match[1] or not all(LABEL.match(label) for label in match[1].split(".")):
        yield run.problem(name, f"{value!r} is not an e-mail address", remedy)
    elif is_placeholder_domain(match[1]) or re.search(r"change-?me|^your", value, re.I):
        yield run.problem(name, f"{value!r} is a placeholder", remedy)
    elif match[1].rpartition(".")[2].lower() in SPECIAL_DOMAINS:
        yield run.problem(name, f"Directus accepts no address under .{match[1].rpartition('.')[2]}", remedy)


def check_domain(run: Preflight) -> Iterator[str]:
    name, domain = "openmates_domain", str(run.get("openmates_domain", "")).strip()
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
    elif run.environment == "prod" and domain.endswith(".localhost"):
        yield run.problem(name, f"{domain!r} is a local name of this machine", remedy)


def is_domain(domain: str) -> bool:
    labels = domain.split(".")
    return len(labels) > 1 and len(domain) <= 253 and all(map(LABEL.match, labels)) and not labels[-1].isdigit()


def check_frontends(run: Preflight) -> Iterator[str]:
    name, urls = "openmates_frontend_urls", run.get("openmates_frontend_urls", [])
    for url in urls:
        match = ORIGIN.match(str(url))
        if not match:
            yield run.problem(
                name, f"{url!r} is not the origin of a website", "Write https:// and a name, without a path"
            )
        elif is_placeholder_domain(match[2]):
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
    """An origin as browsers write it: in lower case, without the scheme's own port, a slash or a path."""
    scheme, host, port = match[1].lower(), match[2].lower(), match[3] or ""
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
    if cookie and not is_domain(cookie.removeprefix(".")):
        yield run.problem(name, f"{cookie!r} is not a domain", "Write it as .example.co.uk, or leave it empty")
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
    check_frontends,
    check_hosting_name,
    check_cookie_domain,
)
