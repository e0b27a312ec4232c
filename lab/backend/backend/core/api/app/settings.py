"""Reads the environment variables and refuses what cannot work, naming the variable.

Only the standard library: the unit tests import this without the backend's dependencies.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from backend.core.api.app.client_address import Network, parse_networks

ENVIRONMENTS = ("development", "production")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT_TOKEN_FILE = "/vault-data/api.token"  # noqa: S105 - a path
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class SettingsError(Exception):
    """The environment cannot work; the text lists every problem with its variable and shows no secret value."""


@dataclass(frozen=True)
class CacheSettings:
    """Where the cache (and with it Celery's broker and result store) is."""

    host: str
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """A redis URL; it holds the password, so never log it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://:{quote(self.password, safe='')}@{host}:{self.port}/0"


@dataclass(frozen=True)
class VaultSettings:
    """Where Vault is and which file holds the token (read anew at every use: it may be replaced)."""

    url: str
    token_file: Path


@dataclass(frozen=True)
class CelerySettings:
    """What the worker and the scheduler need to start."""

    environment: str
    log_level: str
    cache: CacheSettings


@dataclass(frozen=True)
class ApiSettings:
    """What the api needs to start. ``drain_seconds``: how long /ready answers 503 before the listener closes."""

    environment: str
    log_level: str
    cache: CacheSettings
    vault: VaultSettings
    provider: str
    cms_url: str
    admin_email: str
    admin_password: str = field(repr=False)
    internal_token: str = field(repr=False)
    apps: Mapping[str, str]
    allowed_origins: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    drain_seconds: float


class _Reader:
    """Collects every problem, so that an operator mends them in one go."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def problem(self, name: str, text: str) -> None:
        self._problems.append(f"{name} {text}")

    def finish(self) -> None:
        if self._problems:
            raise SettingsError("refusing to start: " + "; ".join(self._problems))

    def optional(self, name: str, default: str = "") -> str:
        return self._environ.get(name, "").strip() or default

    def required(self, name: str) -> str:
        value = self.optional(name)
        if not value:
            self.problem(name, "is missing or empty")
        return value

    def choice(self, name: str, value: str, choices: tuple[str, ...]) -> str:
        if value and value not in choices:
            self.problem(name, f"is {value!r}, must be one of {', '.join(choices)}")
        return value

    def url(self, name: str, value: str) -> str:
        """Check a base address such as http://cms:8055 and drop the slash at its end."""
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
            plain = not (parts.username or parts.password or parts.query or parts.fragment)
        except ValueError:
            good = plain = False
        if value and not (good and plain):
            self.problem(name, "must be like http://name:port, without user, password or query")
        return value.rstrip("/")

    def origin(self, name: str, value: str) -> str:
        value = self.url(name, value)
        if value and value.count("/") > 2:
            self.problem(name, "must hold origins (https://name), without a path")
        return value

    def cache(self) -> CacheSettings:
        address = self.required("DRAGONFLY_URL")
        try:
            parts = urlsplit(f"//{address}")
            host, port = parts.hostname or "", parts.port or 0
        except ValueError:
            host, port = "", 0
        if address and not (host and port and address.rpartition(":")[2] == str(port) and "@" not in address):
            self.problem("DRAGONFLY_URL", "must be host:port")
        return CacheSettings(host, port, self.required("DRAGONFLY_PASSWORD"))

    def vault(self) -> VaultSettings:
        url = self.url("VAULT_URL", self.required("VAULT_URL"))
        return VaultSettings(url, Path(self.optional("VAULT_TOKEN_FILE", DEFAULT_TOKEN_FILE)))

    def environment(self) -> str:
        return self.choice("SERVER_ENVIRONMENT", self.required("SERVER_ENVIRONMENT"), ENVIRONMENTS)

    def log_level(self) -> str:
        return self.choice("LOG_LEVEL", self.optional("LOG_LEVEL", "INFO").upper(), LOG_LEVELS)

    def origins(self, environment: str) -> tuple[str, ...]:
        if environment == "development":
            entries = [entry.strip() for entry in self.required("FRONTEND_URLS").split(",")]
            return tuple(self.origin("FRONTEND_URLS", entry) for entry in entries if entry)
        if environment == "production":
            value = self.origin("PRODUCTION_URL", self.required("PRODUCTION_URL"))
            if value and not value.startswith("https://"):
                self.problem("PRODUCTION_URL", "must begin with https://")
            return (value,)
        return ()

    def apps(self) -> Mapping[str, str]:
        text = self.required("APP_URLS")
        try:
            apps = json.loads(text or "{}")
        except ValueError:
            apps = None
        if not isinstance(apps, dict) or not all(isinstance(url, str) and url for url in apps.values()):
            self.problem("APP_URLS", 'must be a JSON object of name to address, {"name": "http://..."}, or {} for none')
            return {}
        for name in apps:
            if not NAME.fullmatch(name):
                self.problem("APP_URLS", f"holds the name {name!r}: use lower-case letters, digits, - and _")
        return {name: self.url("APP_URLS", url) for name, url in apps.items()}

    def trusted_proxies(self) -> tuple[Network, ...]:
        try:
            return parse_networks(self.optional("TRUSTED_PROXY_IPS"))
        except ValueError as error:
            self.problem("TRUSTED_PROXY_IPS", f"must hold addresses and CIDRs, separated by commas: {error}")
            return ()

    def seconds(self, name: str, default: float) -> float:
        try:
            value = float(self.optional(name, str(default)))
        except ValueError:
            value = -1.0
        if not 0 <= value <= 30:
            self.problem(name, "must be a number of seconds from 0 to 30")
        return value


def load_celery(environ: Mapping[str, str]) -> CelerySettings:
    """Read what the worker and the scheduler share. Raises SettingsError."""
    reader = _Reader(environ)
    settings = CelerySettings(reader.environment(), reader.log_level(), reader.cache())
    reader.finish()
    return settings


def load_vault(environ: Mapping[str, str]) -> VaultSettings:
    """Read where Vault is: the worker needs it, the scheduler does not. Raises SettingsError."""
    reader = _Reader(environ)
    settings = reader.vault()
    reader.finish()
    return settings


def load_api(environ: Mapping[str, str]) -> ApiSettings:
    """Read everything that the api needs. Raises SettingsError."""
    reader = _Reader(environ)
    environment = reader.environment()
    provider = reader.optional("SAMPLE_PROVIDER", "sample")
    if not NAME.fullmatch(provider):
        reader.problem("SAMPLE_PROVIDER", "must be a lower-case provider name")
    if reader.optional("FORWARDED_ALLOW_IPS", "127.0.0.1") != "127.0.0.1":
        reader.problem("FORWARDED_ALLOW_IPS", "must not be set: the server would trust proxies that we do not")
    settings = ApiSettings(
        environment=environment,
        log_level=reader.log_level(),
        cache=reader.cache(),
        vault=reader.vault(),
        provider=provider,
        cms_url=reader.url("CMS_URL", reader.required("CMS_URL")),
        admin_email=reader.required("ADMIN_EMAIL"),
        admin_password=reader.required("ADMIN_PASSWORD"),
        internal_token=reader.required("INTERNAL_API_SHARED_TOKEN"),
        apps=reader.apps(),
        allowed_origins=reader.origins(environment),
        trusted_proxies=reader.trusted_proxies(),
        drain_seconds=reader.seconds("DRAIN_SECONDS", 1.0),
    )
    reader.finish()
    return settings


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets among the variables by name, for the redactor; absent ones are left out."""
    names = ("DRAGONFLY_PASSWORD", "ADMIN_PASSWORD", "DIRECTUS_SECRET", "INTERNAL_API_SHARED_TOKEN")
    return {name: environ[name].strip() for name in names if environ.get(name, "").strip()}
