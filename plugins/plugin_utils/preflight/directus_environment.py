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
#: Variables that the Compose file sets for Directus, with what to set instead.
DIRECTUS_ENVIRONMENT = {
    "TEMP_PATH": "",
    "HOST": "",
    "PUBLIC_URL": "openmates_directus_public_url",
    "DB_CLIENT": "",
    "DB_HOST": "",
    "DB_PORT": "",
    "DB_DATABASE": "",
    "DB_USER": "",
    "REDIS_HOST": "",
    "REDIS_PORT": "",
    "CACHE_ENABLED": "openmates_directus_cache",
    "CACHE_STORE": "",
    "CACHE_TTL": "openmates_directus_cache_ttl",
    "CACHE_AUTO_PURGE": "",
    "CACHE_SCHEMA_MAX_ITERATIONS": "",
    "RATE_LIMITER_ENABLED": "openmates_directus_rate_limit",
    "RATE_LIMITER_STORE": "",
    "RATE_LIMITER_POINTS": "openmates_directus_rate_limit",
    "RATE_LIMITER_DURATION": "",
    "IP_TRUST_PROXY": "openmates_directus_domain",
    "IMPORT_IP_DENY_LIST": "",
    "SESSION_COOKIE_SECURE": "openmates_directus_public_url",
    "REFRESH_TOKEN_COOKIE_SECURE": "openmates_directus_public_url",
    "FILES_MAX_UPLOAD_SIZE": "openmates_directus_upload_size",
    "EMAIL_VERIFY_SETUP": "",
    "LOG_LEVEL": "openmates_log_level",
    "TELEMETRY": "",
    "ADMIN_EMAIL": "openmates_admin_email",
}
#: Secrets that the project gives Directus as files.
DIRECTUS_SECRETS = {
    "DB_PASSWORD": "openmates_database_password",
    "REDIS_PASSWORD": "openmates_cache_password",
    "SECRET": "openmates_directus_secret",
    "ADMIN_PASSWORD": "openmates_admin_password",
    "EMAIL_SMTP_PASSWORD": "openmates_directus_mail_password",
    "STORAGE_S3_SECRET": "openmates_directus_storage_secret",
}


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


def check_environment(run: Preflight) -> Iterator[str]:
    name = "openmates_directus_environment"
    for variable, value in run.get(name, {}).items():
        base = str(variable).removesuffix("_FILE")
        if not VARIABLE.fullmatch(str(variable)):
            yield run.problem(
                name, f"{variable!r} is not the name of a variable", "Use letters, digits and underscores"
            )
        elif variable in DIRECTUS_ENVIRONMENT:
            setting = DIRECTUS_ENVIRONMENT[variable]
            remedy = f"Set {setting} instead" if setting else "Remove it: there is no setting for it"
            yield run.problem(name, f"{variable} is set by the Compose file", remedy)
        elif base in DIRECTUS_SECRETS:
            yield run.problem(name, f"{variable} is set by {DIRECTUS_SECRETS[base]}", "Remove it here")
        elif base in run.get("openmates_directus_secrets", {}):
            yield run.problem(name, f"{variable} is in openmates_directus_secrets, too", "Remove one of them")
        elif value is None or "\0" in str(value):
            yield run.problem(
                name, f"{variable} is empty or contains a character of code 0", "Put its value into quotation marks"
            )


def check_secrets(run: Preflight) -> Iterator[str]:
    name = "openmates_directus_secrets"
    for variable, value in run.get(name, {}).items():
        if not VARIABLE.fullmatch(str(variable)):
            yield run.problem(
                name, f"{variable!r} is not the name of a variable", "Use letters, digits and underscores"
            )
        elif variable in DIRECTUS_SECRETS:
            yield run.problem(name, f"{variable} is set by {DIRECTUS_SECRETS[variable]}", "Remove it here")
        elif variable in DIRECTUS_ENVIRONMENT:
            yield run.problem(name, f"{variable} is set by the Compose file", "Remove it here")
        elif not isinstance(value, str):
            yield run.problem(name, f"{variable} is not text", "Put its value into quotation marks")
        elif "\n" not in value.strip() and (value != value.strip() or not value.strip()):
            yield run.problem(
                name,
                f"{variable} is empty, or begins or ends with a blank or a line break",
                "Use `|-` or quotation marks in YAML",
            )


CHECKS = (check_fields, check_environment, check_secrets)
