# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channels of alerts: with a wrong one no alert arrives, and nothing tells."""

from __future__ import annotations

import difflib
import re
import typing as t
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer

MAIL, PASSWORD = "openmates_alerts_mail", "openmates_alerts_mail_password"
NTFY, TOKEN = "openmates_alerts_ntfy_url", "openmates_alerts_ntfy_token"
URLS = (NTFY, "openmates_alerts_webhook_url", "openmates_alerts_watchdog_url")
_URL = re.compile(r"https?://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[^\s\x00-\x1f\x7f]*)?")
_ADDRESS = re.compile(r"[^@\s,\x00-\x1f\x7f]+@[A-Za-z0-9.-]+")
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")

#: The fields of the mail server, each with what its value is.
FIELDS = {
    "to": "a list of mail addresses",
    "from": "a mail address",
    "host": "a host name",
    "port": "a number",
    "user": "text",
    "tls": "true or false",
}
NEEDED = ("to", "from", "host")


def _addresses(value: t.Any) -> bool:
    given = value if isinstance(value, list) else [value]
    return bool(given) and all(_ADDRESS.fullmatch(str(address)) for address in given)


IS: dict[str, t.Callable[[t.Any], bool]] = {
    "a list of mail addresses": _addresses,
    "a mail address": lambda value: bool(_ADDRESS.fullmatch(str(value))),
    "a host name": lambda value: bool(_HOST.fullmatch(str(value))),
    "a number": lambda value: 0 < (integer(value) or 0) < 65536,
    "text": lambda value: isinstance(value, (str, int)) and bool(_TEXT.fullmatch(str(value))),
    "true or false": lambda value: isinstance(value, bool),
}


def check_mail(run: Preflight) -> Iterator[str]:
    mail = run.get(MAIL, {})
    for name, value in mail.items():
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, n=1)
            remedy = f"Did you mean {close[0]}?" if close else f"Remove it; the fields are {', '.join(FIELDS)}"
            yield run.problem(MAIL, f"there is no {name!r}", remedy)
        elif not IS[FIELDS[name]](value):
            yield run.problem(MAIL, f"its {name} is not {FIELDS[name]}", "Correct it")
    missing = [name for name in NEEDED if mail and name not in mail]
    if missing:
        yield run.problem(MAIL, f"it has no {', '.join(missing)}", "Add it")
    if mail.get("user") and not run.get(PASSWORD):
        yield run.problem(PASSWORD, f"{MAIL} has a user, but there is no password", "Set it in secrets.yml")
    if run.get(PASSWORD) and not mail.get("user"):
        yield run.problem(PASSWORD, f"{MAIL} has no user whose password it is", "Add `user`, or remove the password")


def check_addresses(run: Preflight) -> Iterator[str]:
    """The addresses are secrets, which no message contains."""
    for name in URLS:
        if (url := run.get(name, "")) and not _URL.fullmatch(str(url)):
            yield run.problem(name, "not an http:// or https:// address", "Write it as https://HOST/PATH")
    if run.get(TOKEN) and not run.get(NTFY):
        yield run.problem(TOKEN, f"there is no {NTFY} that it is for", f"Set {NTFY}, or remove it")


CHECKS = (check_mail, check_addresses)
