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
    "openmates_acme_directory": (
        r"https://[^/\s]+(/\S*)?",
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
}
MAY_BE_EMPTY = ("openmates_ssh_bastion", "openmates_registry", "openmates_acme_directory", "openmates_reboot_time")
#: The least and the greatest value, what another one is, and the remedy.
NUMBERS = {
    "openmates_ssh_port": (1, 65535, "not a port", "Set it to the number that sshd listens on, from 1 to 65535"),
    "openmates_signup_limit": (0, None, "not a number of accounts", "Write it as 0 or 1000"),
    "openmates_directus_login_attempts": (
        0,
        None,
        "not a number of logins",
        "Write 0 for no limit, or a number such as 25",
    ),
    "openmates_cms_setup_timeout": (60, None, "fewer than 60 s", "Write it as 3600, for an hour"),
    "openmates_lock_wait": (0, None, "not a number of seconds", "Write 0 to end at once, or a number such as 600"),
    "openmates_host_memory_mb": (0, None, "not a size", "Set it to megabytes, or to 0 for all memory"),
}


def check_forms(run: Preflight) -> Iterator[str]:
    for name, (form, what, remedy) in FORMS.items():
        value = run.get(name)
        if value is not None and not (value == "" and name in MAY_BE_EMPTY) and not re.fullmatch(form, value, re.ASCII):
            yield run.problem(name, f"{value!r} is {what}", remedy)


def check_numbers(run: Preflight) -> Iterator[str]:
    for name, (least, greatest, what, remedy) in NUMBERS.items():
        value = run.get(name, least)
        if value < least or (greatest is not None and value > greatest):
            yield run.problem(name, f"{value} is {what}", remedy)


CHECKS = (check_forms, check_numbers)
