"""What the worker does, apart from Celery."""

import hashlib

from backend.core.api.app.dependencies.cache import Cache
from backend.core.api.app.dependencies.vault import Vault
from backend.core.api.app.errors import DependencyError

KEEP = 60  # seconds the digest stays in the cache


def round_trip(vault: Vault, cache: Cache, ciphertext: str, key: str) -> dict[str, str]:
    """Decrypt ``ciphertext``, write the SHA-256 of the plaintext to the cache under ``key``, and return it.

    A failure is returned as ``{"error": ...}``: raised, it would fill the log with a traceback at every check.
    """
    try:
        digest = hashlib.sha256(vault.decrypt(ciphertext)).hexdigest()
        cache.put(key, digest, KEEP)
    except DependencyError as error:
        return {"error": str(error)}
    return {"digest": digest}
