"""Counts page views in the cache, and carries them over a restart in an encrypted file."""

import json
import logging
from datetime import UTC, datetime

import httpx
import redis

from backend.core.api.app.services.cache import Cache
from backend.core.api.app.services.vault import Vault, VaultError
from backend.core.api.app.settings import Settings

PREFIX = "web:analytics:daily:"
KEEP = 172_800  # seconds

log = logging.getLogger(__name__)


def record(cache: Cache) -> None:
    """Count a page view of today."""
    if client := cache.client:
        key = PREFIX + datetime.now(UTC).date().isoformat()
        client.hincrby(key, "page_views", 1)
        client.expire(key, KEEP)


def dump(settings: Settings, cache: Cache, vault: Vault) -> None:
    """Write the counters to the file, encrypted. A failure is logged and loses them."""
    try:
        client = cache.client
        if not client or not (keys := client.keys(PREFIX + "*")):
            return
        days = {key.removeprefix(PREFIX): client.hgetall(key) for key in keys}
        ciphertext = vault.encrypt(json.dumps({"daily": days}))
        settings.analytics_file.parent.mkdir(parents=True, exist_ok=True)
        settings.analytics_file.write_text(json.dumps({"encrypted": ciphertext, "version": 1}), encoding="utf-8")
        log.info("Persisted web analytics for %d day(s) to disk", len(days))
    except (VaultError, httpx.HTTPError, redis.RedisError, OSError) as error:
        log.error("Failed to dump analytics to disk: %s", error)


def restore(settings: Settings, cache: Cache, vault: Vault) -> None:
    """Add the counters of the file to those in the cache, and remove the file, also if it cannot be decrypted."""
    file = settings.analytics_file
    client = cache.client
    if not file.exists() or not client:
        return
    try:
        try:
            days = json.loads(vault.decrypt(json.loads(file.read_text(encoding="utf-8"))["encrypted"]))["daily"]
        except (VaultError, httpx.HTTPError, LookupError, ValueError) as error:
            log.error("Failed to decrypt analytics backup: %s", error)
            file.unlink()
            return
        for day, counters in days.items():
            for name, value in counters.items():
                client.hincrby(PREFIX + day, name, int(value))
            client.expire(PREFIX + day, KEEP)
        file.unlink()
        log.info("Restored web analytics for %d day(s) from disk", len(days))
    except (redis.RedisError, OSError) as error:
        log.error("Failed to restore analytics from disk: %s", error)
