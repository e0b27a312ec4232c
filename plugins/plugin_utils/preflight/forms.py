# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings whose value has a fixed form, or lies between two numbers, whatever the others are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

_USER = (
    r"[a-z_][a-z0-9_-]{0,30}",
    "not a user name",
    "Use lower-case letters, digits and hyphens, beginning with a letter",
)
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_SIZE = (r"\d+(\.\d+)?[KMGTPE]?", "not a size", "Write it as 500M or 1G")
_SPAN = r"\d+ ?(us|ms|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?|M|months?|y|years?)?"
_ADDRESS = r"\d{1,3}(\.\d{1,3}){3}"
#: The form, what a value of another form is, and the remedy. An empty value means what the setting says of it.
FORMS = {
    "openmates_ssh_user": _USER,
    "openmates_ssh_initial_user": _USER,
    "openmates_ssh_bastion": (
        r"([a-zA-Z_][\w.-]*@)?([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?",
        "not a jump host",
        "Write it as user@host or user@host:port",
    ),
    "openmates_registry": (
        r"[a-zA-Z0-9.-]+(:\d+)?(/[\w./-]+)?",
        "not a registry",
        "Write its host name, without https://, and :port if it has one",
    ),
    "openmates_http_proxy": (
        r"http://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?/?",
        "not the address of an HTTP proxy",
        "Write it as http://HOST:PORT, without a login, which every user of the server could read",
    ),
    "openmates_acme_directory": (
        rf"https://{_HOST}(:\d+)?(/[A-Za-z0-9._~/-]*)?",
        "not an https:// address",
        "Correct it, or leave it empty for Let's Encrypt",
    ),
    "openmates_version": (r"\w[\w.-]{0,127}", "not a version", "Write the tag of OpenMates' images, e.g. v0.14.0"),
    "openmates_health_path": (r"/[A-Za-z0-9._~/-]*", "not a path", "Begin it with a slash, e.g. /v1/health"),
    "openmates_directory": (
        r"(/[A-Za-z0-9._-]+){2,}",
        "not a separate directory",
        "Use an absolute path such as /opt/openmates",
    ),
    "openmates_reboot_time": (
        r"([01]\d|2[0-3]):[0-5]\d",
        "not a time",
        'Write it in quotation marks, e.g. "04:30": YAML takes 22:30 for a number',
    ),
    "openmates_backup_time": (
        r"(\*-\*-\* )?[\d*/,]+(:[\d*/,]+){1,2}( [A-Za-z]+(/[A-Za-z_+-]+)*)?",
        "not a time of each day",
        'Write it in quotation marks, e.g. "03:30": YAML takes 22:30 for a number',
    ),
    "openmates_metrics_directory": (
        r"(/[A-Za-z0-9._-]+){2,}",
        "not a separate directory",
        "Use an absolute path such as /var/lib/openmates/metrics",
    ),
    "openmates_hostname": (
        r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?",
        "not a host name",
        "Use lower-case letters, digits and hyphens",
    ),
    "openmates_timezone": (
        r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*",
        "not a time zone",
        "Write one of those that `timedatectl list-timezones` lists, e.g. Europe/Berlin",
    ),
    "openmates_upgrade_origins": (
        r'[^"\\%;\x00-\x1f\x7f]+',
        "not an origin pattern",
        "Write it as origin=Debian,codename=${distro_codename}-security",
    ),
    "openmates_time_sources": (
        r"[a-z]+( [\x20-\x7e]*)?",
        "not a line of chrony's configuration",
        "Write it as server time.example.com iburst",
    ),
    "openmates_journal_max_use": _SIZE,
    "openmates_journal_keep_free": _SIZE,
    "openmates_journal_retention": (rf"{_SPAN}( {_SPAN})*", "not a time span", "Write it as 90day or 3month"),
    "openmates_request_timeout": (r"(\d+(\.\d+)?(ms|s|m|h|d))+", "not a duration", "Write it as 5m or 90s"),
    "openmates_hsts": (
        r"max-age=\d+(; ?(includeSubDomains|preload))*",
        "not a value of that header",
        "Write it as max-age=63072000; includeSubDomains",
    ),
    "openmates_cache_maxmemory": (r"\d+(\.\d+)?([kmg]b?|b)?", "not a size", "Write it as 512mb"),
    "openmates_gateway": (_ADDRESS, "not an IPv4 address", "Write it as 172.30.0.1"),
    "openmates_directus_public_url": (
        rf"https?://{_HOST}(:\d+)?(/[A-Za-z0-9._~/-]*)?",
        "not the address of a website",
        "Write it as https://cms.example.com",
    ),
    "openmates_directus_cache_ttl": (r"\d+(\.\d+)? ?(ms|s|m|h|d|w|y)?", "not a duration", "Write it as 5m or 1h"),
    "openmates_directus_upload_size": (r"\d+(\.\d+)? ?([kmgKMG]?[bB])?", "not a size", "Write it as 100mb"),
}
MAY_BE_EMPTY = (
    "openmates_ssh_bastion",
    "openmates_registry",
    "openmates_acme_directory",
    "openmates_reboot_time",
    "openmates_hostname",
    "openmates_http_proxy",
)
#: Text that a container gets whatever it is, but for what no argument can hold.
ARGUMENTS = ("openmates_cms_setup_command", "openmates_directus_schema")
_COUNT = (0, None, "not a number of backups", "Write it as 7, or 0 for none")
#: The least and the greatest value, what another one is, and the remedy.
NUMBERS = {
    "openmates_backup_keep_daily": _COUNT,
    "openmates_backup_keep_weekly": _COUNT,
    "openmates_backup_keep_monthly": _COUNT,
    "openmates_ssh_port": (1, 65535, "not a port", "Set it to the number that sshd listens on, from 1 to 65535"),
    "openmates_signup_limit": (0, None, "not a number of accounts", "Write it as 0 or 1000"),
    "openmates_directus_login_attempts": (
        0,
        None,
        "not a number of logins",
        "Write 0 for no limit, or a number such as 25",
    ),
    "openmates_cms_setup_timeout": (60, None, "fewer than 60 s", "Write it as 3600, for an hour"),
    "openmates_scan_hours": (
        1,
        None,
        "not a number of hours",
        "Write it as 24, for once a day",
    ),
    "openmates_lock_wait": (0, None, "not a number of seconds", "Write 0 to end at once, or a number such as 600"),
    "openmates_host_memory_mb": (0, None, "not a size", "Set it to megabytes, or to 0 for all memory"),
}


def check_forms(run: Preflight) -> Iterator[str]:
    for name, (form, what, remedy) in FORMS.items():
        value = run.get(name, [])
        for item in value if isinstance(value, list) else [value]:
            if not (item == "" and name in MAY_BE_EMPTY) and not re.fullmatch(form, item, re.ASCII):
                yield run.problem(name, f"{item!r} is {what}", remedy)


def check_arguments(run: Preflight) -> Iterator[str]:
    for name in ARGUMENTS:
        if "\0" in "".join(run.get(name, "")):
            yield run.problem(name, "it contains a character of code 0", "Remove it: no program can get it")


def check_numbers(run: Preflight) -> Iterator[str]:
    for name, (least, greatest, what, remedy) in NUMBERS.items():
        value = run.get(name, least)
        if value < least or (greatest is not None and value > greatest):
            yield run.problem(name, f"{value} is {what}", remedy)


CHECKS = (check_forms, check_arguments, check_numbers)
