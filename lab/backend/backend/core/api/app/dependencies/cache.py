"""The cache: a password-protected key-value store that speaks the Redis protocol."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backend.core.api.app.errors import DependencyError
from backend.core.api.app.settings import CacheSettings

TIMEOUT = 2.0  # seconds


class Cache:
    """Opens a connection for every use, so that each one proves the password and the network anew."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings

    def check(self) -> str:
        """Write a random value, read it back, remove it."""
        key, value = f"sample:check:{secrets.token_hex(8)}", secrets.token_hex(8)
        with self._client() as client:
            client.set(key, value, ex=30)
            answer = client.get(key)
            client.delete(key)
        if answer != value:
            raise DependencyError("the cache did not return what was written")
        return "wrote and read a value, authenticated"

    def put(self, key: str, value: str, seconds: int) -> None:
        """Write ``value`` for ``seconds``. Raises DependencyError."""
        with self._client() as client:
            client.set(key, value, ex=seconds)

    def take(self, key: str) -> str | None:
        """Read and remove a value; None if there is none. Raises DependencyError."""
        with self._client() as client:
            value = client.get(key)
            client.delete(key)
        return value

    def get(self, key: str) -> str | None:
        """Read a value; None if there is none. Raises DependencyError."""
        with self._client() as client:
            return client.get(key)

    def queue_length(self, queue: str) -> int:
        """Return how many messages wait in a Celery queue. Raises DependencyError."""
        with self._client() as client:
            return client.llen(queue)

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        where = f"{self._settings.host}:{self._settings.port}"
        client = redis.Redis(
            host=self._settings.host,
            port=self._settings.port,
            password=self._settings.password,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # the next check is the retry
            protocol=2,  # what every Redis-compatible server speaks
            decode_responses=True,
        )
        try:
            yield client
        except redis.AuthenticationError:
            raise DependencyError(f"the cache at {where} refused the password") from None
        except redis.TimeoutError:
            raise DependencyError(f"no answer from the cache at {where} within {TIMEOUT:g} s") from None
        except redis.ConnectionError:
            raise DependencyError(f"no connection to the cache at {where}") from None
        except redis.RedisError as error:
            raise DependencyError(f"the cache at {where} refused a command: {type(error).__name__}") from None
        finally:
            client.close()
