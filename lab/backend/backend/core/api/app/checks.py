"""Asks every dependency at once which one does its part. The sample's own: the real backend has no such thing."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TIMEOUT = 4.5  # seconds a check may take
KEEP = 2.0  # seconds a result answers further questions
MAXIMUM_DETAIL = 300  # characters

log = logging.getLogger(__name__)


class CheckError(Exception):
    """A dependency does not do its part; the text is for a person and holds no secret."""


@dataclass(frozen=True)
class Check:
    """A dependency's check: ``run`` returns a detail, or raises if the dependency does not do its part."""

    name: str
    run: Callable[[], str]


@dataclass(frozen=True)
class Result:
    """What a check found."""

    ok: bool
    detail: str


class Checks:
    """Runs all checks when asked, each in its own thread. ``redact`` cleans the details; ``clock`` is for tests."""

    def __init__(
        self,
        checks: Iterable[Check],
        redact: Callable[[str], str],
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = list(checks)
        self._redact = redact
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._results: dict[str, Result] = {}
        self._ran_at: float | None = None

    def results(self) -> dict[str, Result]:
        """Return every check's result, none older than two seconds, within the time-out whatever hangs."""
        with self._lock:
            if self._ran_at is None or self._clock() - self._ran_at > KEEP:
                self._results = self._run()
                self._ran_at = self._clock()
            return dict(self._results)

    def _run(self) -> dict[str, Result]:
        late = Result(False, f"no answer within {self._timeout:g} s")
        found: dict[str, Result] = {}

        def ask(check: Check) -> None:
            found[check.name] = self._ask(check)

        threads = [threading.Thread(target=ask, args=(check,), daemon=True) for check in self._checks]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self._timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        finished = dict(found)
        return {check.name: finished.get(check.name, late) for check in self._checks}

    def _ask(self, check: Check) -> Result:
        try:
            ok, detail = True, check.run()
        except CheckError as error:
            ok, detail = False, str(error)
        except Exception as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        return Result(ok, " ".join(self._redact(detail).split())[:MAXIMUM_DETAIL])


def all_ok(results: dict[str, Result]) -> bool:
    """Say whether every dependency does its part; with no result at all, none does."""
    return bool(results) and all(result.ok for result in results.values())
