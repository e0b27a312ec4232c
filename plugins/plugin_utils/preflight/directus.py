# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Directus gets in its environment: mail server, storage, further variables and secrets."""

from __future__ import annotations

import difflib
import typing as t
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.backend import VARIABLE
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight, integer

#: The fields of a mapping, each with what its value is.
FIELDS: dict[str, dict[str, str]] = {
    "openmates_directus_mail": {
        "host": "text",
        "port": "a number",
        "user": "text",
        "from": "text",
        "secure": "true or false",
    },
    "openmates_directus_storage": {
        "driver": "local or s3",
        "bucket": "text",
        "region": "text",
        "endpoint": "text",
        "key": "text",
    },
}
IS: dict[str, t.Callable[[t.Any], bool]] = {
    "text": lambda value: isinstance(value, (str, int)) and not isinstance(value, bool) and "\0" not in str(value),
    "a number": lambda value: integer(value) is not None,
    "true or false": lambda value: isinstance(value, bool) or value in ("true", "false"),
    "local or s3": lambda value: value in ("local", "s3"),
}
COMPOSE = "the Compose file"
#: Variables that the Compose file sets for Directus, with the setting that defines each.
SET = {
    **dict.fromkeys(("DB_CLIENT", "DB_HOST", "DB_PORT", "DB_DATABASE", "DB_USER"), COMPOSE),
    **dict.fromkeys(
        ("REDIS_HOST", "REDIS_PORT", "CACHE_STORE", "CACHE_AUTO_PURGE", "CACHE_SCHEMA_MAX_ITERATIONS"), COMPOSE
    ),
    **dict.fromkeys(("TEMP_PATH", "HOST", "EMAIL_VERIFY_SETUP", "TELEMETRY", "RATE_LIMITER_STORE"), COMPOSE),
    **dict.fromkeys(("RATE_LIMITER_DURATION", "IMPORT_IP_DENY_LIST", "LOG_HTTP_IGNORE_PATHS"), COMPOSE),
    **dict.fromkeys(("RATE_LIMITER_ENABLED", "RATE_LIMITER_POINTS"), "openmates_directus_rate_limit"),
    **dict.fromkeys(
        ("PUBLIC_URL", "SESSION_COOKIE_SECURE", "REFRESH_TOKEN_COOKIE_SECURE"), "openmates_directus_public_url"
    ),
    "IP_TRUST_PROXY": "openmates_directus_domain",
    "CACHE_ENABLED": "openmates_directus_cache",
    "CACHE_TTL": "openmates_directus_cache_ttl",
    "FILES_MAX_UPLOAD_SIZE": "openmates_directus_upload_size",
    "LOG_LEVEL": "openmates_log_level",
    "ADMIN_EMAIL": "openmates_admin_email",
    # Those that Directus gets as files.
    "SECRET": "openmates_directus_secret",
    "DB_PASSWORD": "openmates_database_password",
    "REDIS_PASSWORD": "openmates_cache_password",
    "ADMIN_PASSWORD": "openmates_admin_password",
    "ACCOUNT_PASSWORD": "openmates_directus_secret",
    "EMAIL_SMTP_PASSWORD": "openmates_directus_mail_password",
    "STORAGE_S3_SECRET": "openmates_directus_storage_secret",
}
ENVIRONMENT, SECRETS = "openmates_directus_environment", "openmates_directus_secrets"
NO_PASSWORDS = "AUTH_DISABLE_DEFAULT"
FALSE = ("", "0", "false", "none")


def check_fields(run: Preflight) -> Iterator[str]:
    for name, fields in FIELDS.items():
        for key, value in run.get(name, {}).items():
            if key not in fields:
                close = difflib.get_close_matches(str(key), fields, n=1)
                remedy = f"Did you mean {close[0]}?" if close else f"Remove it; the fields are {', '.join(fields)}"
                yield run.problem(name, f"there is no {key!r}", remedy)
            elif not IS[fields[key]](value):
                yield run.problem(name, f"its {key} is not {fields[key]}", "Correct it")
    if "driver" not in run.get("openmates_directus_storage", {"driver": ""}):
        yield run.problem("openmates_directus_storage", "it has no driver", "Add `driver: local` or `driver: s3`")


def check_variables(run: Preflight) -> Iterator[str]:
    """Directus does not start with two values of a variable, and a second secret would replace the stack's."""
    for setting, judge in ((ENVIRONMENT, _problem_of_variable), (SECRETS, _problem_of_secret)):
        for variable, value in run.get(setting, {}).items():
            base = str(variable).removesuffix("_FILE")
            if not VARIABLE.fullmatch(str(variable)):
                yield run.problem(
                    setting, f"{variable!r} is not the name of a variable", "Use letters, digits and underscores"
                )
            elif place := SET.get(base):
                remedy = "Remove it" if place == COMPOSE else f"Set {place} instead"
                yield run.problem(setting, f"it sets {variable}, which {place} defines", remedy)
            elif setting == ENVIRONMENT and base in run.get(SECRETS, {}):
                yield run.problem(setting, f"{variable} is in {SECRETS} too", "Remove one of the two")
            elif variable != NO_PASSWORDS and (found := judge(value)):
                yield run.problem(setting, f"{variable} {found[0]}", found[1])


def _problem_of_variable(value: t.Any) -> tuple[str, str] | None:
    """What is wrong with it, and the remedy."""
    if value is None or "\0" in str(value):
        return "is empty or contains a character of code 0", "Put its value into quotation marks"
    return None


def _problem_of_secret(value: t.Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "is not text", "Put its value into quotation marks"
    if "\n" not in value.strip() and (value != value.strip() or not value.strip()):
        return "is empty, or begins or ends with a blank or a line break", "Use `|-` or quotation marks in YAML"
    return None


def check_password_logins(run: Preflight) -> Iterator[str]:
    """The api, its workers and cms-setup know no other login."""
    for setting in (ENVIRONMENT, SECRETS):
        if str(run.get(setting, {}).get(NO_PASSWORDS, "")).strip().lower() not in FALSE:
            yield run.problem(
                setting,
                f"{NO_PASSWORDS} turns logins with a password off, and the api logs in to Directus with one",
                "Remove it. People may log in by a provider of AUTH_PROVIDERS besides, and may have a second factor",
            )


CHECKS = (check_fields, check_variables, check_password_logins)
