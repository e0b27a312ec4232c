"""The cache: a password-protected key-value store that speaks the Redis protocol.

As in the real backend, every failure of a read or a write is logged and then looks like an empty cache, and one failed
connection keeps the whole process from trying again for 30 seconds.
"""

import json
import logging
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backend.core.api.app.settings import Settings

TIMEOUT = 5.0  # seconds
COOLDOWN = 30.0  # seconds
DEFAULT_TTL = 3600  # seconds

log = logging.getLogger(__name__)


class Cache:
    """Opens its connection at the first use, and keeps it. Safe to use from several threads."""

    _not_before = 0.0  # shared by all instances of a process

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: redis.Redis | None = None

    @property
    def client(self) -> redis.Redis | None:
        """The connection; None if it fails or has failed in the last half minute."""
        if self._client is None:
            if time.monotonic() < Cache._not_before:
                return None
            client = redis.Redis(
                host=self._settings.cache_host,
                port=self._settings.cache_port,
                password=self._settings.cache_password,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                # Newer clients repeat more often by themselves than the one that the real backend has.
                retry=Retry(NoBackoff(), 1),
                retry_on_error=[redis.TimeoutError],
                health_check_interval=30,
                protocol=2,  # what every Redis-compatible server speaks
                decode_responses=True,
            )
            try:
                client.ping()
            except (redis.RedisError, OSError) as error:
                Cache._not_before = time.monotonic() + COOLDOWN
                log.warning("Failed to connect to cache at %s: %s", self._settings.cache_host, error)
                return None
            self._client = client
        return self._client

    def get(self, key: str) -> object:
        """Return a value, decoded if it is JSON; None if there is none, or no cache."""
        try:
            client = self.client
            value = client.get(key) if client else None
        except (redis.RedisError, OSError) as error:
            log.error("Cache GET error for key %r: %s", key, error)
            return None
        try:
            return json.loads(value) if value else None
        except ValueError:
            return value

    def set(self, key: str, value: object, ttl: int = DEFAULT_TTL) -> bool:
        """Write a value for ``ttl`` seconds; return whether that worked."""
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            client = self.client
            return bool(client and client.setex(key, ttl, text))
        except (redis.RedisError, OSError) as error:
            log.error("Cache SET error for key %r: %s", key, error)
            return False

    def delete(self, key: str) -> None:
        """Remove a value."""
        try:
            if client := self.client:
                client.delete(key)
        except (redis.RedisError, OSError) as error:
            log.error("Cache DELETE error for key %r: %s", key, error)
