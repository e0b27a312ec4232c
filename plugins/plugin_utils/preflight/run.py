# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input of every check, and helpers that several checks use."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ansible_collections.openmates.server.plugins.plugin_utils import operator_secrets
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import SETTING as SERVICES
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import Services

ENVIRONMENTS = ("dev", "prod")
# The minimum length of each secret, in characters.
SECRETS = {name: secret.shortest for name, secret in operator_secrets.SECRETS.items()}
#: Settings that hold other secrets, by a name of the operator's.
SECRET_MAPPINGS = ("openmates_vault_seeds", "openmates_registry_logins")
#: Secrets that other servers know, so that no run can make them.
KEYS = (
    *("openmates_backup_s3_secret", "openmates_backup_sftp_key"),
    *("openmates_alerts_ntfy_url", "openmates_alerts_webhook_url", "openmates_alerts_watchdog_url"),
)
EXAMPLE_DOMAIN = re.compile(
    r"(^|\.)(example(\.(com|net|org))?|invalid|domain\.(com|tld)|your-?domain\..+)$", re.IGNORECASE
)
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE | re.ASCII)


class Preflight:
    """One run of the checks: the settings that could be evaluated, the host's facts, and the settings' files."""

    def __init__(
        self,
        settings: Mapping,
        facts: Mapping,
        files: Mapping,
        values: Mapping[str, Any],
        unresolved: Mapping[str, str],
        places: Mapping[str, str],
        host: Mapping[str, Any],
    ) -> None:
        self.facts = facts
        self.host = host
        self.files = files
        self.places = places
        self.settings: dict[str, Any] = _plain(values)
        self.broken: dict[str, str] = dict(unresolved)
        for name in settings:
            # A setting may refer to a missing one: that is a problem to report, not a reason to stop.
            try:
                self.settings[name] = _plain(settings[name])
            except Exception as error:
                if f"'{name}' is undefined" not in str(error):
                    self.broken[name] = str(error)

    def get(self, name: str, default: Any = None) -> Any:
        value = self.settings.get(name)
        return default if value is None else value

    @property
    def services(self) -> Services:
        """The services of the catalogue, by name. A field that cannot be evaluated is missing."""
        return self.settings.get(SERVICES) or {}

    @property
    def environment(self) -> str:
        return str(self.get("openmates_environment", ""))

    def file(self, name: str) -> str:
        """Where a setting is set, or the file that it belongs in."""
        if name in self.places:
            return self.places[name]
        if name.partition(".")[0] in self.places:  # a field of a service, besides others that are set
            return self.places[name.partition(".")[0]]
        # Several secrets may share a problem.
        if name.split()[0].rstrip(",") in SECRETS or name in (*SECRET_MAPPINGS, *KEYS):
            return self.files.get("secrets", "the inventory's group_vars")
        if name in ("openmates_exposure", "openmates_environment"):
            return self.files.get("exposure", "playbooks/group_vars")
        return self.files.get("settings", "the inventory's group_vars")

    def problem(self, name: str, what: str, remedy: str) -> str:
        return f"{name} in {self.file(name)}: {what}. {remedy}"

    def host_problem(self, what: str, remedy: str) -> str:
        return f"This host: {what}. {remedy}"


def _plain(value: Any) -> Any:
    """A deep copy without Ansible's lazy templating, so that errors are raised here and not inside a check."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def integer(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def is_domain(name: str) -> bool:
    """Whether a text is a name of the DNS with two labels or more, in ASCII."""
    labels = name.split(".")
    return len(labels) > 1 and len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def domain_as_used(name: str) -> str:
    """A domain as certificates, browsers and the DNS have it: lower case, Punycode, no dot or blank at its ends."""
    labels = unicodedata.normalize("NFKC", name.strip().lower()).removesuffix(".").split(".")
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)


def is_placeholder_domain(name: str) -> bool:
    return bool(
        EXAMPLE_DOMAIN.search(name.rstrip(".")) or re.search(r"[<>{}]|change-?me|placeholder|your-?domain", name, re.I)
    )


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None
