# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further environment variables and secrets of Directus: none that the stack sets itself, or that locks it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight

ENVIRONMENT, SECRETS = "openmates_directus_environment", "openmates_directus_secrets"
COMPOSE = "the Compose file"
# Variables that the Compose file sets for Directus, with the setting that defines each.
SET = {
    **dict.fromkeys(("DB_CLIENT", "DB_HOST", "DB_PORT", "DB_DATABASE", "DB_USER"), COMPOSE),
    **dict.fromkeys(
        ("REDIS_HOST", "REDIS_PORT", "CACHE_STORE", "CACHE_AUTO_PURGE", "CACHE_SCHEMA_MAX_ITERATIONS"), COMPOSE
    ),
    **dict.fromkeys(("TEMP_PATH", "HOST", "EMAIL_VERIFY_SETUP", "TELEMETRY", "RATE_LIMITER_STORE"), COMPOSE),
    **dict.fromkeys(("RATE_LIMITER_ENABLED", "RATE_LIMITER_POINTS"), "openmates_directus_rate_limit"),
    **dict.fromkeys(("RATE_LIMITER_DURATION", "IMPORT_IP_DENY_LIST"), COMPOSE),
    **dict.fromkeys(
        ("PUBLIC_URL", "SESSION_COOKIE_SECURE", "REFRESH_TOKEN_COOKIE_SECURE"), "openmates_directus_public_url"
    ),
    "IP_TRUST_PROXY": "openmates_directus_domain",
    "CACHE_ENABLED": "openmates_directus_cache",
    "CACHE_TTL": "openmates_directus_cache_ttl",
    "FILES_MAX_UPLOAD_SIZE": "openmates_directus_upload_size",
    "LOG_LEVEL": "openmates_log_level",
    "ADMIN_EMAIL": "openmates_admin_email",
}
# Secrets that Directus gets as files, with the setting that defines each.
FILES = {
    "SECRET": "openmates_directus_secret",
    "DB_PASSWORD": "openmates_database_password",
    "REDIS_PASSWORD": "openmates_cache_password",
    "ADMIN_PASSWORD": "openmates_admin_password",
    "ACCOUNT_PASSWORD": "openmates_directus_secret",
    "EMAIL_SMTP_PASSWORD": "openmates_directus_mail_password",
    "STORAGE_S3_SECRET": "openmates_directus_storage_secret",
}
NO_PASSWORDS = "AUTH_DISABLE_DEFAULT"
FALSE = ("", "0", "false", "none")


def _given(run: Preflight, setting: str) -> Mapping:
    found = run.get(setting, {})
    return found if isinstance(found, Mapping) else {}


def check_variables(run: Preflight) -> Iterator[str]:
    """Directus does not start with two values of a variable, and a second secret would replace the stack's."""
    for setting in (ENVIRONMENT, SECRETS):
        for name in sorted(_given(run, setting)):
            variable = str(name).removesuffix("_FILE")
            if place := (SET | FILES).get(variable):
                yield run.problem(
                    setting,
                    f"it sets {name}, which {place} defines",
                    f"Remove it{f' and set {place}' if place != COMPOSE else ''}",
                )
    for name in sorted(set(_given(run, ENVIRONMENT)) & set(_given(run, SECRETS))):
        yield run.problem(ENVIRONMENT, f"{name} is in {SECRETS} too", "Remove one of the two")


def check_password_logins(run: Preflight) -> Iterator[str]:
    """The api, its workers and cms-setup know no other login."""
    for setting in (ENVIRONMENT, SECRETS):
        if str(_given(run, setting).get(NO_PASSWORDS, "")).strip().lower() not in FALSE:
            yield run.problem(
                setting,
                f"{NO_PASSWORDS} turns logins with a password off, and the api logs in to Directus with one",
                "Remove it. People may log in by a provider of AUTH_PROVIDERS besides, and may have a second factor",
            )


CHECKS = (check_variables, check_password_logins)
