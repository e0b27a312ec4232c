"""Runs every check over and over in the background and says what is true now.

Each check has a thread of its own, so one that hangs delays no other; the reader notices a hanging or dead thread by
the clock alone, so readiness can turn false even when the loop itself has stalled.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from backend.core.api.app.errors import DependencyError

INTERVAL = 5.0  # seconds from the start of a run to the start of the next
TIMEOUT = 3.0  # seconds a run may take
STALE_AFTER = 15.0  # seconds after which a result no longer counts
MAXIMUM_DETAIL = 300  # characters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """A dependency's check: ``run`` returns a detail for the operator, or raises if the dependency is not up."""

    name: str
    run: Callable[[], str]
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Result:
    """What is known about a dependency now."""

    ok: bool
    detail: str
    checked_seconds_ago: float


@dataclass(frozen=True)
class _State:
    """Replaced as a whole, so that readers need no lock. Times are the clock's; ok is None before the first run."""

    ok: bool | None
    detail: str
    finished: float
    started: float | None = None


class Monitor:
    """Keeps the results of all checks. ``redact`` cleans every detail; ``clock`` is for tests."""

    def __init__(
        self,
        checks: Iterable[Check],
        redact: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = {check.name: check for check in checks}
        self._redact = redact
        self._clock = clock
        self._stopping = threading.Event()
        self._states = {name: _State(None, "not checked yet", clock()) for name in self._checks}

    def start(self) -> None:
        """Start the checks. Their threads are daemons: a hanging one does not hold up the end of the process."""
        for name in self._checks:
            threading.Thread(target=self._loop, args=(name,), name=f"check-{name}", daemon=True).start()

    def stop(self) -> None:
        """Start no further run. The results then go stale, which is meant."""
        self._stopping.set()

    def run_once(self, name: str) -> None:
        """Run one check now and keep its result."""
        check, before = self._checks[name], self._states[name]
        started = self._clock()
        self._states[name] = _State(before.ok, before.detail, before.finished, started)
        try:
            ok, detail = True, check.run()
        except DependencyError as error:
            ok, detail = False, str(error)
        except Exception as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        finished = self._clock()
        if ok and finished - started > check.timeout:
            ok, detail = False, f"answered only after {finished - started:.1f} s, the limit is {check.timeout:g} s"
        detail = " ".join(self._redact(detail).split())[:MAXIMUM_DETAIL]
        if ok != before.ok:
            level = logging.INFO if ok else logging.WARNING
            fields = {"dependency": name, "ok": ok, "detail": detail}
            log.log(level, "dependency is %s", "up" if ok else "down", extra={"fields": fields})
        self._states[name] = _State(ok, detail, finished)

    def results(self) -> dict[str, Result]:
        """Return what is known now, by name. Never waits."""
        return {name: self._judge(name) for name in self._checks}

    def _loop(self, name: str) -> None:
        while not self._stopping.is_set():
            started = self._clock()
            self.run_once(name)
            self._stopping.wait(max(0.0, started + INTERVAL - self._clock()))

    def _judge(self, name: str) -> Result:
        state, now = self._states[name], self._clock()
        age = now - state.finished
        if state.started is not None and now - state.started > self._checks[name].timeout:
            return Result(False, f"no answer for {now - state.started:.1f} s", age)
        if age > STALE_AFTER:
            return Result(False, f"stale: last checked {age:.1f} s ago, the check loop has stalled", age)
        return Result(bool(state.ok), state.detail, age)


def all_up(results: dict[str, Result]) -> bool:
    """Say whether every dependency is up; with no result at all, none is."""
    return bool(results) and all(result.ok for result in results.values())
