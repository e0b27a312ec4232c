"""The Celery worker: hands it a task that only a fully wired worker can answer rightly."""

import hashlib
import secrets

import celery.exceptions
from celery import Celery

from backend.core.api.app.dependencies.cache import Cache
from backend.core.api.app.dependencies.vault import Vault
from backend.core.api.app.errors import DependencyError
from backend.core.api.app.settings import CacheSettings
from backend.core.api.app.tasks.factory import QUEUE, ROUND_TRIP, make_app

ANSWER_WITHIN = 3.5  # seconds
# Without a limit every check would leave a message behind for as long as no worker runs.
MAXIMUM_WAITING = 20


class Worker:
    """Encrypts a random value, has the worker decrypt it and write its digest to the cache. Used by one thread."""

    def __init__(self, settings: CacheSettings, vault: Vault, cache: Cache) -> None:
        self._settings = settings
        self._vault = vault
        self._cache = cache
        self._celery: Celery | None = None

    def check(self) -> str:
        """Send the task and compare both the answer and what the worker left in the cache."""
        waiting = self._cache.queue_length(QUEUE)
        if waiting > MAXIMUM_WAITING:
            raise DependencyError(f"no worker takes tasks: {waiting} are waiting")
        plaintext = secrets.token_bytes(16)
        expected = hashlib.sha256(plaintext).hexdigest()
        key = f"sample:round-trip:{secrets.token_hex(8)}"
        answer = self._ask(self._vault.encrypt(plaintext), key)
        if "error" in answer:
            raise DependencyError(f"the worker says: {answer['error']}")
        if answer.get("digest") != expected:
            raise DependencyError("the worker answered wrongly")
        if self._cache.take(key) != expected:
            raise DependencyError("the worker did not write to the cache")
        return "the worker decrypted through transit and wrote to the cache"

    def _ask(self, ciphertext: str, key: str) -> dict:
        try:
            self._celery = self._celery or make_app(self._settings)
            # A message that nobody took in time is worth nothing: let it expire.
            pending = self._celery.send_task(ROUND_TRIP, args=[ciphertext, key], expires=ANSWER_WITHIN, retry=False)
            try:
                answer = pending.get(timeout=ANSWER_WITHIN)
            finally:
                pending.forget()
        except celery.exceptions.TimeoutError:
            raise DependencyError(f"no worker answered within {ANSWER_WITHIN:g} s") from None
        except Exception as error:
            # Celery's result connection does not always recover from a lost cache: begin with a new one.
            self._discard()
            raise DependencyError(f"cannot hand a task to the worker: {type(error).__name__}") from None
        if not isinstance(answer, dict):
            raise DependencyError("the worker answered wrongly")
        return answer

    def _discard(self) -> None:
        discarded, self._celery = self._celery, None
        if discarded:
            discarded.close()
