"""Reads the environment variables as the real backend does: with defaults, and without refusing anything.

A missing variable shows at its first use, in the log, while `/v1/health` goes on answering 200. Only the standard
library: the unit tests import this without the backend's dependencies.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

SECRETS = ("DRAGONFLY_PASSWORD", "DATABASE_ADMIN_PASSWORD", "DIRECTUS_SECRET", "INTERNAL_API_SHARED_TOKEN")


@dataclass(frozen=True)
class Settings:
    """What the processes of the backend read from their environment."""

    development: bool
    log_level: str
    cms_url: str
    vault_url: str | None
    token_file: Path
    cache_host: str
    cache_port: int
    cache_password: str = field(repr=False)
    admin_email: str | None
    admin_password: str | None = field(repr=False)
    internal_token: str | None = field(repr=False)
    log_directory: Path
    analytics_file: Path
    apps: Mapping[str, str]  # the sample's own: name of an App to its address
    provider: str  # the sample's own: which provider key the observation reads


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment. Raises ValueError only for APP_URLS, which the real backend does not have."""
    host, _, port = environ.get("DRAGONFLY_URL", "cache:6379").rpartition("://")[2].partition(":")
    return Settings(
        development=environ.get("SERVER_ENVIRONMENT", "development").lower() == "development",
        log_level=environ.get("LOG_LEVEL", "INFO").upper(),
        cms_url=environ.get("CMS_URL", "http://cms:8055"),
        vault_url=environ.get("VAULT_URL"),
        token_file=Path(environ.get("SAMPLE_VAULT_TOKEN_FILE", "/vault-data/api.token")),
        cache_host=host,
        cache_port=int(port or "6379"),
        cache_password=environ.get("DRAGONFLY_PASSWORD", ""),
        admin_email=environ.get("DATABASE_ADMIN_EMAIL"),
        admin_password=environ.get("DATABASE_ADMIN_PASSWORD"),
        internal_token=environ.get("INTERNAL_API_SHARED_TOKEN"),
        log_directory=Path(environ.get("LOG_DIR", "/app/logs")),
        analytics_file=Path(environ.get("SAMPLE_SHARED_CACHE", "/shared/cache")) / "web_analytics_backup.json",
        apps=_apps(environ.get("APP_URLS", "")),
        provider=environ.get("SAMPLE_PROVIDER", "sample"),
    )


def broker_url(environ: Mapping[str, str]) -> str:
    """Return Celery's broker and result store; it holds the password, so never log it.

    As in the real backend, DRAGONFLY_URL plays no part here, and a slash in the password is not escaped: such a
    password breaks the URL.
    """
    password = quote(environ.get("DRAGONFLY_PASSWORD", ""))
    return environ.get("CELERY_BROKER_URL") or f"redis://default:{password}@cache:6379/0"


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets among the variables by name, for the redactor; absent ones are left out."""
    return {name: environ[name].strip() for name in SECRETS if environ.get(name, "").strip()}


def _apps(text: str) -> Mapping[str, str]:
    try:
        apps = json.loads(text or "{}")
    except ValueError:
        apps = None
    if not isinstance(apps, dict) or not all(isinstance(url, str) and url for url in apps.values()):
        raise ValueError('APP_URLS must be a JSON object of name to address, {"name": "http://..."}, or {} for none')
    return apps
