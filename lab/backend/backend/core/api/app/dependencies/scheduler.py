"""Celery beat: looks for the stamp that its heartbeat task leaves in the cache."""

import time

from backend.core.api.app.dependencies.cache import Cache
from backend.core.api.app.errors import DependencyError

KEY = "sample:scheduler:heartbeat"
KEEP = 600  # seconds the stamp stays, so that an old one can be told from none
MAXIMUM_AGE = 45.0  # seconds


def stamp(cache: Cache) -> None:
    """Leave the stamp (the worker does this for beat)."""
    cache.put(KEY, repr(time.time()), KEEP)


def check(cache: Cache) -> str:
    """Read the stamp. Raises DependencyError if there is none or it is old."""
    try:
        age = time.time() - float(cache.get(KEY) or "nan")
    except ValueError:
        raise DependencyError("the heartbeat of the scheduler is not a time") from None
    if age != age:  # not a number: there is no stamp
        raise DependencyError("no heartbeat from the scheduler yet")
    # A stamp from the future, after a clock was set back, would otherwise count as young for long.
    if abs(age) > MAXIMUM_AGE:
        raise DependencyError(f"last heartbeat from the scheduler {age:.0f} s ago")
    return f"heartbeat {age:.0f} s ago"
