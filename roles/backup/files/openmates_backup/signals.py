# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals that end a process are exceptions, so that what it has begun is recorded and cleaned up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def raising(exception: Callable[[str], BaseException], what: str) -> Iterator[None]:
    """Until the end of the block a signal raises this exception, with the sentence that it has ended `what`."""

    def end(number: int, _frame: object) -> None:
        raise exception(f"{what} was ended by {signal.Signals(number).name}.")

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
